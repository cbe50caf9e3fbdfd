// A Deep Potential in a `.kepton` file: safetensors, with the tables of the kernel in it.
#pragma once

#include <string>
#include <vector>

#include "deep_potential.h"

namespace kepton {

// What the kernel is given of a model, in float32; see `DeepPotential`.
struct Model {
  std::vector<std::string> species;
  long members, functions, channels, axis;
  std::vector<double> radial, core, screening, bias, scales;
  std::vector<float> coefficients, empty, mean;
  std::vector<std::vector<float>> weights;  // of the layers
  std::vector<long> rows, outputs;

  double cutoff() const { return radial[0]; }

  // Everything but structures, lists and results. It points into this model.
  DeepPotential<float> potential() const;
};

// The model in the bytes of a file. Throws std::runtime_error, what is wrong with them.
Model read_model(const std::string& bytes);

}  // namespace kepton
