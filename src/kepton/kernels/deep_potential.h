// Energy, forces and virial of the members of a Deep Potential: what goes in, what comes out.
#pragma once

#include <cstdint>
#include <vector>

#include "levels.h"

namespace kepton {

// A layer of the fitting nets of all members and elements, (k, S, rows, outputs): the rows of W, the
// bias, and where there is one more row the time step.
template <class T> struct Layer {
  const T* weights;
  long rows, outputs;
};

// Neighbours of one element: their slots in a list, and its place among the S elements.
struct Segment {
  long element, slots;
};

template <class T> struct DeepPotential {
  long frames, atoms, slots;         // b, n, m
  const double* positions;           // (b, n, 3)
  const int32_t* types;              // (b, n): the element's place, -1 where padded
  const double* cell;                // (b, 3, 3)
  const int32_t* home;               // (b, n, 3)
  const int32_t* index;              // (b, n, m): -1 where there is no neighbour
  const int16_t* image;              // (b, n, m)
  std::vector<Segment> segments;

  long members, elements, functions, channels, axis;  // k, S, K, M, M<
  const double* radial;                               // cutoff, smooth, lowest, width, largest
  const double* core;                                 // (3, S, S): strength, 1 / size, where it ends
  const double* screening;                            // (2, 4): weights and decays
  const T* coefficients;                              // (k, S, 2, S, K, M), of the rows 1 and x, y, z
  const T* empty;                                     // (k, S, M): what T holds without neighbours
  const T* mean;                                      // (S, d)
  const double* bias;                                 // (S,)
  const double* scales;                               // of D, of T, of energies
  std::vector<Layer<T>> layers;

  double* energy;  // (k, b)
  double* shares;  // (k, b, n): what each atom has of it, or null
  double* forces;  // (k, b, n, 3)
  double* virial;  // (k, b, 3, 3), or null
  double* atomic;  // (k, b, n, 3, 3): of each atom, sum_i r_ji (x) dE_i/dr_j of atom j; or null
  long threads;
};

KEPTON_AT_EACH_LEVEL(template <class T> void evaluate(const DeepPotential<T>& given);)

// At the level of the machine's instructions
template <class T> inline void evaluate(const DeepPotential<T>& given) {
  KEPTON_AT_BEST_LEVEL(evaluate(given))
}

}  // namespace kepton
