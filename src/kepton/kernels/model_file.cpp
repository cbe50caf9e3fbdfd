#include "model_file.h"

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "json.h"

namespace kepton {
namespace {

constexpr long FORMAT = 1;  // as in kepton/model_file.py

void check(bool fine, const std::string& wrong) {
  if (!fine) throw std::runtime_error(wrong);
}

using Shape = std::vector<long>;

class Safetensors {
 public:
  explicit Safetensors(const std::string& bytes) : bytes(bytes) {
    const std::string foreign = "it is no model file of Kepton, or it is damaged";
    check(bytes.size() >= 8, foreign);
    uint64_t size;
    std::memcpy(&size, bytes.data(), 8);
    check(size <= bytes.size() - 8, foreign);
    start = 8 + size;
    try {
      index = JsonReader::read(bytes.substr(8, size));
      header = JsonReader::read(index.at("__metadata__").at("kepton").string());
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(foreign + " (" + error.what() + ")");
    }
  }

  bool has(const std::string& name) const { return index.find(name); }

  Shape shape(const std::string& name) const {
    Shape found;
    for (const Json& length : index.at(name).at("shape").items) found.push_back(length.count());
    return found;
  }

  // The numbers of a tensor, which must have this shape
  template <class T> std::vector<T> numbers(const std::string& name, const Shape& expected) const {
    check(shape(name) == expected, name + " has another shape than the rest of the model");
    const Json& entry = index.at(name);
    const std::string& type = entry.at("dtype").string();
    check(type == "F32" || type == "F64", name + " is neither F32 nor F64");
    const size_t width = type == "F32" ? 4 : 8, room = bytes.size() - start;
    const auto& range = entry.at("data_offsets").items;
    check(range.size() == 2, name + " has no place in the file");
    const size_t first = range[0].count(), end = range[1].count();
    check(first <= end && end <= room, "it ends before " + name + " does");
    size_t count = 1;
    for (const long length : expected) {
      check(!length || count <= room / length, name + " is larger than the file");
      count *= length;
    }
    check((end - first) % width == 0 && (end - first) / width == count,
          name + " has another size than its shape");
    const char* from = bytes.data() + start + first;
    return width == 4 ? converted<float, T>(from, count) : converted<double, T>(from, count);
  }

  Json header;

 private:
  template <class From, class To> static std::vector<To> converted(const char* from, size_t count) {
    std::vector<From> held(count);
    if (count) std::memcpy(held.data(), from, count * sizeof(From));
    return std::vector<To>(held.begin(), held.end());
  }

  const std::string& bytes;
  size_t start;
  Json index;
};

}  // namespace

Model read_model(const std::string& bytes) {
  const Safetensors file(bytes);
  const long format = file.header.at("format").count();
  check(format == FORMAT, "it has format " + std::to_string(format) + ", and this plugin reads " +
                              std::to_string(FORMAT) + "; build the plugin again with the Kepton that "
                              "wrote the model");
  const std::string coefficients = "kernel.coefficients";
  check(file.has(coefficients),
        "it lacks the tables that LAMMPS needs; `kepton convert` of it to another .kepton file adds "
        "them to a Deep Potential (tanh, with a radial basis), and nothing else has them");
  Model model;
  for (const Json& name : file.header.at("species").items) model.species.push_back(name.string());
  const long elements = model.species.size();

  const Shape shape = file.shape(coefficients);
  check(shape.size() == 6 && elements > 0, coefficients + " is no table of a Deep Potential");
  model.members = shape[0], model.functions = shape[4], model.channels = shape[5];
  model.axis = file.header.at("config").at("axis").count();
  const long members = model.members, channels = model.channels;
  check(members > 0 && model.functions > 0 && 0 < model.axis && model.axis <= channels,
        coefficients + " is empty");
  model.coefficients = file.numbers<float>(
      coefficients, {members, elements, 2, elements, model.functions, channels});
  model.empty = file.numbers<float>("kernel.empty", {members, elements, channels});
  model.radial = file.numbers<double>("kernel.radial", {5});
  model.core = file.numbers<double>("kernel.core", {3, elements, elements});
  model.screening = file.numbers<double>("kernel.screening", {2, 4});
  check(std::isfinite(model.cutoff()) && model.cutoff() > 0, "its cutoff is no length");

  model.bias = file.numbers<double>("statistics.bias", {elements});
  for (const char* name : {"descriptor_scale", "neighbors", "scale"})
    model.scales.push_back(file.numbers<double>(std::string("statistics.") + name, {})[0]);
  long inputs = channels * model.axis;
  model.mean = file.numbers<float>("statistics.descriptor_mean", {elements, inputs});
  for (long layer = 0; file.has("weights.fitting." + std::to_string(layer)); layer++) {
    const std::string name = "weights.fitting." + std::to_string(layer);
    const Shape found = file.shape(name);
    check(found.size() == 4 && found[3] > 0 && (found[2] == inputs + 1 || found[2] == inputs + 2),
          name + " does not fit to the layer before it");
    model.weights.push_back(file.numbers<float>(name, {members, elements, found[2], found[3]}));
    model.rows.push_back(found[2]), model.outputs.push_back(found[3]);
    inputs = found[3];
  }
  check(!model.outputs.empty() && model.outputs.back() == 1, "its fitting nets have no energy");
  return model;
}

DeepPotential<float> Model::potential() const {
  DeepPotential<float> given{};
  given.members = members, given.elements = species.size();
  given.functions = functions, given.channels = channels, given.axis = axis;
  given.radial = radial.data(), given.core = core.data(), given.screening = screening.data();
  given.coefficients = coefficients.data(), given.empty = empty.data(), given.mean = mean.data();
  given.bias = bias.data(), given.scales = scales.data();
  for (size_t layer = 0; layer < weights.size(); layer++)
    given.layers.push_back({weights[layer].data(), rows[layer], outputs[layer]});
  return given;
}

}  // namespace kepton
