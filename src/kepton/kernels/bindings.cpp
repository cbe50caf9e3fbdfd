// What Python calls: the operations of XLA.

#include "closed_moments.h"
#include "deep_potential.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

using Numbers = ffi::Span<const int64_t>;
using Doubles = ffi::Buffer<ffi::F64>;
using Whole = ffi::Buffer<ffi::S32>;

template <class T>
ffi::Error evaluate(Numbers segments, int64_t axis, bool virial, int64_t threads, Doubles positions,
                    Whole types, Doubles cell, Whole home, Whole index,
                    ffi::Buffer<ffi::S16> image, Doubles radial, Doubles core, Doubles screening,
                    Doubles bias, Doubles scales, ffi::AnyBuffer mean, ffi::AnyBuffer coefficients,
                    ffi::AnyBuffer empty, ffi::RemainingArgs layers, ffi::Result<Doubles> energy,
                    ffi::Result<Doubles> forces, ffi::Result<Doubles> virials) {
  kepton::DeepPotential<T> given;
  const auto listed = index.dimensions(), functions = coefficients.dimensions();
  given.frames = listed[0], given.atoms = listed[1], given.slots = listed[2];
  given.positions = positions.typed_data();
  given.types = types.typed_data();
  given.cell = cell.typed_data();
  given.home = home.typed_data();
  given.index = index.typed_data();
  given.image = image.typed_data();
  for (size_t i = 0; i < segments.size(); i += 2)
    given.segments.push_back({segments[i], segments[i + 1]});
  given.members = functions[0], given.elements = functions[1];
  given.functions = functions[4], given.channels = functions[5];
  given.axis = axis;
  given.radial = radial.typed_data();
  given.core = core.typed_data();
  given.screening = screening.typed_data();
  given.coefficients = static_cast<const T*>(coefficients.untyped_data());
  given.empty = static_cast<const T*>(empty.untyped_data());
  given.mean = static_cast<const T*>(mean.untyped_data());
  given.bias = bias.typed_data();
  given.scales = scales.typed_data();
  for (size_t i = 0; i < layers.size(); i++) {
    const auto layer = layers.get<ffi::AnyBuffer>(i);
    if (!layer) return layer.error();
    const auto shape = layer->dimensions();
    given.layers.push_back({static_cast<const T*>(layer->untyped_data()), shape[2], shape[3]});
  }
  given.energy = energy->typed_data();
  given.shares = nullptr, given.atomic = nullptr;
  given.forces = forces->typed_data();
  given.virial = virial ? virials->typed_data() : nullptr;
  given.threads = threads;
  kepton::evaluate(given);
  return ffi::Error::Success();
}

auto bound() {
  return ffi::Ffi::Bind()
      .Attr<Numbers>("segments")
      .Attr<int64_t>("axis")
      .Attr<bool>("virial")
      .Attr<int64_t>("threads")
      .Arg<Doubles>()
      .Arg<Whole>()
      .Arg<Doubles>()
      .Arg<Whole>()
      .Arg<Whole>()
      .Arg<ffi::Buffer<ffi::S16>>()
      .Arg<Doubles>()
      .Arg<Doubles>()
      .Arg<Doubles>()
      .Arg<Doubles>()
      .Arg<Doubles>()
      .Arg<ffi::AnyBuffer>()
      .Arg<ffi::AnyBuffer>()
      .Arg<ffi::AnyBuffer>()
      .RemainingArgs()
      .Ret<Doubles>()
      .Ret<Doubles>()
      .Ret<Doubles>();
}

ffi::Error solve(int64_t boundary, double gamma, double prandtl, int64_t threads, Doubles moments,
                 Whole steps, Doubles step_length, Doubles knudsen, Doubles velocity,
                 Doubles outside, Doubles kept, Doubles forgetting, Doubles to_molecules,
                 Doubles of_molecules, ffi::Result<Doubles> found) {
  kepton::ClosedMoments given;
  const auto shape = found->dimensions();
  given.times = shape[0], given.velocities = shape[1], given.kinds = shape[2];
  given.gases = shape[3], given.cells = shape[4];
  given.boundary = boundary, given.gamma = gamma, given.prandtl = prandtl;
  given.moments = moments.typed_data();
  given.steps = steps.typed_data();
  given.step_length = step_length.typed_data();
  given.knudsen = knudsen.typed_data();
  given.velocity = velocity.typed_data();
  given.outside = outside.typed_data();
  given.kept = kept.typed_data();
  given.forgetting = forgetting.element_count() ? forgetting.typed_data() : nullptr;
  given.to_molecules = to_molecules.typed_data();
  given.of_molecules = of_molecules.typed_data();
  given.found = found->typed_data();
  given.threads = threads;
  kepton::solve(given);
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(deep_potential_f32, evaluate<float>, bound());
XLA_FFI_DEFINE_HANDLER_SYMBOL(deep_potential_f64, evaluate<double>, bound());
XLA_FFI_DEFINE_HANDLER_SYMBOL(closed_moments, solve,
                              ffi::Ffi::Bind()
                                  .Attr<int64_t>("boundary")
                                  .Attr<double>("gamma")
                                  .Attr<double>("prandtl")
                                  .Attr<int64_t>("threads")
                                  .Arg<Doubles>()
                                  .Arg<Whole>()
                                  .Arg<Doubles>()
                                  .Arg<Doubles>()
                                  .Arg<Doubles>()
                                  .Arg<Doubles>()
                                  .Arg<Doubles>()
                                  .Arg<Doubles>()
                                  .Arg<Doubles>()
                                  .Arg<Doubles>()
                                  .Ret<Doubles>());
