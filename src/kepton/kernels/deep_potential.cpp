// Energy, forces and virial of a Deep Potential, compiled once for each level of instructions.
//
// A block is as many atoms of one element as two registers have lanes. Neighbours stand in the lanes
// while they are projected and while forces are pulled out, atoms do in between: the descriptor and
// the nets are products of a matrix and the block, (inputs, lanes) -> (outputs, lanes).

#include "deep_potential.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "vectors.h"
#include "workers.h"

namespace kepton::LEVEL {
namespace {

constexpr long PARTS = 16, PART = 256;  // shares of the atoms, and the least of atoms in one

struct Freed {
  void operator()(void* memory) const { std::free(memory); }
};
template <class T> using Memory = std::unique_ptr<T[], Freed>;

template <class T> Memory<T> memory(long count) {
  return Memory<T>(static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 127) / 64 * 64)));
}

template <class T> Memory<T> zeros(long count) {
  return Memory<T>(static_cast<T*>(std::calloc(std::max(count, 1L), sizeof(T))));
}

// ------------------------------------------------------------------ a matrix and a block

// y_o (+)= sum_i w_io x_i for N outputs and V registers
template <class T, int N, int V, bool Transposed>
inline void tile(const T* w, long stride, long inputs, const Vector<T>* x, Vector<T>* y, bool add) {
  Vector<T> found[N][V] = {};
  for (long i = 0; i < inputs; i++)
    for (int o = 0; o < N; o++) {
      const T weight = Transposed ? w[o * stride + i] : w[i * stride + o];
      for (int v = 0; v < V; v++) found[o][v] += weight * x[i * V + v];
    }
  for (int o = 0; o < N; o++)
    for (int v = 0; v < V; v++) y[o * V + v] = add ? y[o * V + v] + found[o][v] : found[o][v];
}

// w is (inputs, outputs) by rows of `stride`, or where Transposed (outputs, inputs)
template <class T, int V, bool Transposed>
void multiply(const T* w, long stride, long inputs, long outputs, const Vector<T>* x, Vector<T>* y,
              bool add = false) {
  const long step = Transposed ? stride : 1;
  long o = 0;
  for (; o + TILE <= outputs; o += TILE)
    tile<T, TILE, V, Transposed>(w + o * step, stride, inputs, x, y + o * V, add);
  for (; o + 4 <= outputs; o += 4)
    tile<T, 4, V, Transposed>(w + o * step, stride, inputs, x, y + o * V, add);
  for (; o < outputs; o++)
    tile<T, 1, V, Transposed>(w + o * step, stride, inputs, x, y + o * V, add);
}

// ------------------------------------------------------------------ functions of the distance

// Of a number or of lanes: u - u is zero of either kind.

// 1 below inner, 0 above outer, and the slope
template <class V, class S> inline void fall(V r, S inner, S outer, V& value, V& slope) {
  const S inverse = 1 / (outer - inner);
  V u = (r - inner) * inverse;
  u = u < 0 ? u - u : u;
  u = u > 1 ? u - u + 1 : u;
  value = 1 - u * u * u * (10 + u * (6 * u - 15));
  slope = -30 * inverse * u * u * (1 - u) * (1 - u);
}

// r above lowest + width, a constant below lowest, and the slope
template <class V, class S> inline void clamp(V r, S lowest, S width, V& value, V& slope) {
  V t = (r - lowest) * (1 / width);
  t = t < 0 ? t - t : t;
  const V bent = lowest + width * (S(0.5) + t * t * t * t * (S(2.5) + t * (t - 3)));
  const V turn = t * t * t * (10 + t * (6 * t - 15));
  value = t < 1 ? bent : r;
  slope = t < 1 ? turn : t - t + 1;
}

template <class V, class S> inline void smooth(V r, S inner, S outer, V& value, V& slope) {
  V w, dw;
  fall(r, inner, outer, w, dw);
  const V inverse = 1 / r;
  value = w * inverse;
  slope = (dw - value) * inverse;
}

// ------------------------------------------------------------------ atoms of one element

template <class T> class Block {
  using Lanes = Vector<T>;
  static constexpr long W = Register<T>::width;

  // What is known of a neighbour within the cutoff: r_ij / r, r, 1 / r, s and twice its Chebyshev
  // variable with their slopes in r, and the slope of the repulsion.
  enum Field { X, Y, Z, LENGTH, INVERSE, S, DS, T2, DT2, PUSH, FIELDS };

 public:
  static constexpr long ATOMS = 2 * W;

  explicit Block(const DeepPotential<T>& given)
      : p(given),
        capacity((given.slots + W * given.segments.size() + W - 1) / W * W),
        rows(4 * given.segments.size() * given.functions),
        fields(memory<Lanes>(ATOMS * FIELDS * capacity / W)),
        index(memory<int32_t>(ATOMS * capacity)),
        ends(ATOMS * given.segments.size()),
        projection(memory<Lanes>(2 * rows)),
        slope(memory<Lanes>(2 * rows)),
        moments(memory<Lanes>(8 * given.channels)),
        turned(memory<Lanes>(8 * given.channels)),
        own(memory<T>(rows)),
        pulls(memory<T>(3 * capacity)) {
    for (const auto& layer : given.layers) {
      const long inputs = x.empty() ? given.channels * given.axis : outputs;
      x.push_back(memory<Lanes>(2 * inputs));
      back.push_back(memory<Lanes>(2 * inputs));
      y.push_back(memory<Lanes>(2 * layer.outputs));
      outputs = layer.outputs;
    }
  }

  // Adds to `energies` (k, b n), `forces` (k, b n, 3), `virial` (k, b, 3, 3), `atomic` (k, b n, 3, 3)
  void evaluate(const double* wrapped, const long* atoms, long count, double* energies,
                double* forces, double* virial, double* atomic) {
    if (count <= W)
      run<1>(wrapped, atoms, count, energies, forces, virial, atomic);
    else
      run<2>(wrapped, atoms, count, energies, forces, virial, atomic);
  }

 private:
  template <int V>
  void run(const double* wrapped, const long* atoms, long count, double* energies, double* forces,
           double* virial, double* atomic) {
    const long type = p.types[atoms[0]], all = p.frames * p.atoms;
    std::memset(static_cast<void*>(projection.get()), 0, rows * V * sizeof(Lanes));
    double repulsion[ATOMS];
    for (long a = 0; a < count; a++) {
      repulsion[a] = gather(wrapped, atoms[a], a);
      project(a, reinterpret_cast<T*>(projection.get()) + a, V * W);
    }
    for (long member = 0; member < p.members; member++) {
      const Lanes* energy = nets<V>(member, type);
      for (long a = 0; a < count; a++) {
        energies[member * all + atoms[a]] =
            p.scales[2] * reinterpret_cast<const T*>(energy)[a] + p.bias[type] + repulsion[a];
        pull(atoms[a], a, reinterpret_cast<const T*>(slope.get()) + a, V * W,
             forces + 3 * member * all,
             virial ? virial + 9 * (member * p.frames + atoms[a] / p.atoms) : nullptr,
             atomic ? atomic + 9 * member * all : nullptr);
      }
    }
  }

  T* field(long a, Field which) {
    return reinterpret_cast<T*>(fields.get()) + (a * FIELDS + which) * capacity;
  }
  Lanes* lanes(long a, Field which) { return reinterpret_cast<Lanes*>(field(a, which)); }

  // Collects the neighbours of an atom and returns half of their repulsion
  double gather(const double* wrapped, long atom, long a) {
    const long frame = atom / p.atoms, segments = p.segments.size();
    const double *frame_positions = wrapped + 3 * p.atoms * frame, *own = wrapped + 3 * atom;
    const double *cell = p.cell + 9 * frame, square = p.radial[0] * p.radial[0];
    const int32_t* listed = p.index + atom * p.slots;
    const int16_t* images = p.image + atom * p.slots;
    T *x = field(a, X), *y = field(a, Y), *z = field(a, Z);
    int32_t* found = index.get() + a * capacity;
    double origin[3] = {-own[0], -own[1], -own[2]};
    int last = 0;
    long end = 0, slot = 0;
    for (long e = 0; e < segments; e++) {
      for (const long stop = slot + p.segments[e].slots; slot < stop; slot++) {
        const long j = listed[slot];
        if (j < 0) continue;
        if (images[slot] != last) {
          last = images[slot];
          const int c = ((last + 16) & 31) - 16, rest = (last - c) / 32;
          const int b = ((rest + 16) & 31) - 16, aa = (rest - b) / 32;
          for (int k = 0; k < 3; k++)
            origin[k] = aa * cell[k] + b * cell[3 + k] + c * cell[6 + k] - own[k];
        }
        const double* other = frame_positions + 3 * j;
        const double dx = other[0] + origin[0], dy = other[1] + origin[1], dz = other[2] + origin[2];
        x[end] = dx, y[end] = dy, z[end] = dz, found[end] = j;
        end += dx * dx + dy * dy + dz * dz < square;
      }
      ends[a * segments + e] = end;
      // filled up with what is out of sight
      for (; end % W; end++) x[end] = 2 * p.radial[0], y[end] = z[end] = 0;
    }
    measure(a, end / W);
    return repel(a, p.types[atom]);
  }

  void measure(long a, long registers) {
    const T cutoff = p.radial[0], inner = p.radial[1], lowest = p.radial[2], width = p.radial[3];
    const T twice = 4 / p.radial[4];
    for (long g = 0; g < registers; g++) {
      Lanes &x = lanes(a, X)[g], &y = lanes(a, Y)[g], &z = lanes(a, Z)[g];
      const Lanes square = x * x + y * y + z * z;
      Lanes r, inside, turn, t, dt;
      for (int lane = 0; lane < W; lane++) r[lane] = std::sqrt(square[lane]);
      const Lanes inverse = 1 / r;
      smooth(r, inner, cutoff, lanes(a, S)[g], lanes(a, DS)[g]);
      clamp(r, lowest, width, inside, turn);
      smooth(inside, inner, cutoff, t, dt);
      lanes(a, T2)[g] = twice * t - 2;
      lanes(a, DT2)[g] = twice * dt * turn;
      lanes(a, LENGTH)[g] = r;
      lanes(a, INVERSE)[g] = inverse;
      lanes(a, PUSH)[g] = Lanes{};
      x *= inverse, y *= inverse, z *= inverse;
    }
  }

  // The universal repulsion of Ziegler, Biersack and Littmark between close neighbours
  double repel(long a, long type) {
    const long count = p.elements * p.elements, segments = p.segments.size();
    double total = 0;
    for (long e = 0, start = 0; e < segments; start = (ends[a * segments + e++] + W - 1) / W * W) {
      const long pair = type * p.elements + p.segments[e].element;
      const double strength = p.core[pair], unit = p.core[count + pair];
      const double outer = p.core[2 * count + pair];
      for (long j = start; j < ends[a * segments + e]; j++) {
        const double r = field(a, LENGTH)[j];
        if (r >= outer) continue;
        double screening = 0, change = 0, w, dw;
        for (int k = 0; k < 4; k++) {
          const double decay = p.screening[4 + k] * unit;
          const double term = p.screening[k] * std::exp(-decay * r);
          screening += term;
          change -= decay * term;
        }
        fall(r, 0.7 * outer, outer, w, dw);
        total += 0.5 * strength / r * w * screening;
        field(a, PUSH)[j] =
            0.5 * strength / r * (dw * screening + w * change - w * screening / r);
      }
    }
    return total;
  }

  // A_ck = sum_j s T_k Y_c, to every `stride`th number of `target`
  void project(long a, T* target, long stride) {
    const long segments = p.segments.size(), count = p.functions;
    const Lanes *x = lanes(a, X), *y = lanes(a, Y), *z = lanes(a, Z), *t2 = lanes(a, T2);
    Lanes* before = reinterpret_cast<Lanes*>(pulls.get());
    Lanes* now = before + capacity / W;
    long start = 0;
    for (long e = 0; e < segments; e++) {
      const long end = (ends[a * segments + e] + W - 1) / W;
      for (long g = start; g < end; g++) {
        now[g] = lanes(a, S)[g];
        before[g] = now[g] * t2[g] * T(0.5);
      }
      for (long k = 0; k < count; k += RADIAL) {
        Lanes sums[RADIAL][4] = {};
        for (long g = start; g < end; g++) {
          Lanes u = now[g], past = before[g];
          for (int step = 0; step < RADIAL; step++) {
            sums[step][0] += u;
            sums[step][1] += u * x[g];
            sums[step][2] += u * y[g];
            sums[step][3] += u * z[g];
            const Lanes next = t2[g] * u - past;
            past = u, u = next;
          }
          now[g] = u, before[g] = past;
        }
        for (long step = 0; step < RADIAL && k + step < count; step++)
          for (int c = 0; c < 4; c++)
            target[((c * segments + e) * count + k + step) * stride] = sum<T>(sums[step][c]);
      }
      start = end;
    }
  }

  // Energies of the atoms in the lanes, eV / scale; dE/dA to `slope`
  template <int V> const Lanes* nets(long member, long type) {
    const long segments = p.segments.size(), K = p.functions, M = p.channels, axis = p.axis;
    const long place = member * p.elements + type;
    const T* coefficients = p.coefficients + place * 2 * p.elements * K * M;
    auto matrix = [&](int c, long e) {
      return coefficients + ((c > 0) * p.elements + p.segments[e].element) * K * M;
    };
    const T share = 1 / p.scales[1], inverse = 1 / p.scales[0], scale = p.scales[2];
    Lanes* t = moments.get();
    for (int c = 0; c < 4; c++)
      for (long e = 0; e < segments; e++)
        multiply<T, V, false>(matrix(c, e), M, K, M, &projection[(c * segments + e) * K * V],
                              t + c * M * V, e > 0);
    for (long m = 0; m < 4 * M; m++)
      for (int v = 0; v < V; v++)
        t[m * V + v] = (t[m * V + v] + (m < M ? p.empty[place * M + m] : 0)) * share;
    const T* mean = p.mean + type * M * axis;
    for (long m = 0; m < M; m++)
      for (long n = 0; n < axis; n++)
        for (int v = 0; v < V; v++) {
          Lanes d = t[m * V + v] * t[n * V + v];
          for (int c = 1; c < 4; c++) d += t[(c * M + m) * V + v] * t[(c * M + n) * V + v];
          x[0][(m * axis + n) * V + v] = (d - mean[m * axis + n]) * inverse;
        }

    const long depth = p.layers.size() - 1;
    long inputs = M * axis;
    for (long l = 0; l <= depth; l++) {
      const auto& layer = p.layers[l];
      const T* w = layer.weights + place * layer.rows * layer.outputs;
      const T *bias = w + inputs * layer.outputs, *time = bias + layer.outputs;
      multiply<T, V, false>(w, layer.outputs, inputs, layer.outputs, x[l].get(), y[l].get());
      for (long o = 0; o < layer.outputs; o++)
        for (int v = 0; v < V; v++) {
          Lanes& value = y[l][o * V + v];
          value = value + bias[o];
          if (l == depth) continue;
          value = tanh<T>(value);
          Lanes out = layer.rows == inputs + 2 ? value * time[o] : value;
          if (layer.outputs == inputs || layer.outputs == 2 * inputs)
            out += x[l][o % inputs * V + v];
          x[l + 1][o * V + v] = out;
        }
      inputs = layer.outputs;
    }

    // and back
    for (long l = depth; l >= 0; l--) {
      const auto& layer = p.layers[l];
      inputs = l ? p.layers[l - 1].outputs : M * axis;
      const T* w = layer.weights + place * layer.rows * layer.outputs;
      const T* time = w + (inputs + 1) * layer.outputs;
      if (l == depth) {
        for (long i = 0; i < inputs; i++)
          for (int v = 0; v < V; v++) back[l][i * V + v] = all<T>(scale * w[i]);
        continue;
      }
      const Lanes* above = back[l + 1].get();
      for (long o = 0; o < layer.outputs; o++)
        for (int v = 0; v < V; v++) {
          Lanes& value = y[l][o * V + v];
          value = above[o * V + v] * (1 - value * value);
          if (layer.rows == inputs + 2) value *= time[o];
        }
      multiply<T, V, true>(w, layer.outputs, layer.outputs, inputs, y[l].get(), back[l].get());
      if (layer.outputs == inputs || layer.outputs == 2 * inputs)
        for (long o = 0; o < layer.outputs; o++)
          for (int v = 0; v < V; v++) back[l][o % inputs * V + v] += above[o * V + v];
    }

    Lanes* dt = turned.get();
    std::memset(static_cast<void*>(dt), 0, 4 * M * V * sizeof(Lanes));
    for (long m = 0; m < M; m++)
      for (int v = 0; v < V; v++) {
        Lanes sums[4] = {};
        for (long n = 0; n < axis; n++) {
          const Lanes d = back[0][(m * axis + n) * V + v] * (inverse * share);
          for (int c = 0; c < 4; c++) {
            sums[c] += d * t[(c * M + n) * V + v];
            dt[(c * M + n) * V + v] += d * t[(c * M + m) * V + v];
          }
        }
        for (int c = 0; c < 4; c++) dt[(c * M + m) * V + v] += sums[c];
      }
    for (int c = 0; c < 4; c++)
      for (long e = 0; e < segments; e++)
        multiply<T, V, true>(matrix(c, e), M, M, K, dt + c * M * V,
                             &slope[(c * segments + e) * K * V]);
    return y[depth].get();
  }

  // Forces and virial from dE/dA = G, every `stride`th number of `source`. With x = r_ij / r,
  // dE/dr_ij = (q - x . g / r) x + g / r,   q = sum_ck G_ck B_k' Y_c,   g_c = sum_k G_ck B_k
  void pull(long atom, long a, const T* source, long stride, double* forces, double* virial,
            double* atomic) {
    const long segments = p.segments.size(), count = p.functions;
    for (int c = 0; c < 4; c++)
      for (long row = 0; row < segments * count; row++)
        own[row * 4 + c] = source[(c * segments * count + row) * stride];
    T *px = pulls.get(), *py = px + capacity, *pz = py + capacity;
    double* force = forces + 3 * atom;
    double* others = forces + 3 * (atom / p.atoms * p.atoms);
    long start = 0;
    for (long e = 0; e < segments; e++) {
      const long end = ends[a * segments + e];
      for (long g = start / W; g < (end + W - 1) / W; g++) {
        const Lanes x = lanes(a, X)[g], y = lanes(a, Y)[g], z = lanes(a, Z)[g];
        const Lanes t2 = lanes(a, T2)[g], dt2 = lanes(a, DT2)[g];
        Lanes u = lanes(a, S)[g], du = lanes(a, DS)[g];
        Lanes past = u * t2 * T(0.5), dpast = (du * t2 + u * dt2) * T(0.5);
        Lanes q[4] = {lanes(a, PUSH)[g]}, turn[4] = {};
        for (const T *row = &own[e * count * 4], *stop = row + 4 * count; row < stop; row += 4) {
          q[0] += du * row[0];
          for (int c = 1; c < 4; c++) {
            q[c] += du * row[c];
            turn[c] += u * row[c];
          }
          const Lanes next = t2 * u - past, dnext = t2 * du + (dt2 * u - dpast);
          past = u, u = next, dpast = du, du = dnext;
        }
        const Lanes inverse = lanes(a, INVERSE)[g];
        const Lanes along = q[0] + (q[1] - turn[1] * inverse) * x + (q[2] - turn[2] * inverse) * y +
                            (q[3] - turn[3] * inverse) * z;
        reinterpret_cast<Lanes*>(px)[g] = along * x + turn[1] * inverse;
        reinterpret_cast<Lanes*>(py)[g] = along * y + turn[2] * inverse;
        reinterpret_cast<Lanes*>(pz)[g] = along * z + turn[3] * inverse;
      }
      double sums[3] = {};
      const int32_t* found = index.get() + a * capacity;
      for (long j = start; j < end; j++) {
        const double pulled[3] = {px[j], py[j], pz[j]};
        double* other = others + 3 * found[j];
        for (int c = 0; c < 3; c++) sums[c] += pulled[c], other[c] -= pulled[c];
      }
      for (int c = 0; c < 3; c++) force[c] += sums[c];
      if (virial || atomic)
        for (long j = start; j < end; j++) {
          const double r = field(a, LENGTH)[j];
          const double d[3] = {r * field(a, X)[j], r * field(a, Y)[j], r * field(a, Z)[j]};
          const double pulled[3] = {px[j], py[j], pz[j]};
          double* other = atomic ? atomic + 9 * (atom / p.atoms * p.atoms + found[j]) : nullptr;
          for (int b = 0; b < 3; b++)
            for (int c = 0; c < 3; c++) {
              if (virial) virial[3 * b + c] -= 0.5 * (d[b] * pulled[c] + d[c] * pulled[b]);
              if (other) other[3 * b + c] -= d[b] * pulled[c];
            }
        }
      start = (end + W - 1) / W * W;
    }
  }

  const DeepPotential<T>& p;
  const long capacity, rows;
  Memory<Lanes> fields;
  Memory<int32_t> index;
  std::vector<long> ends;  // by atom and element, in numbers
  Memory<Lanes> projection, slope, moments, turned;
  Memory<T> own, pulls;
  std::vector<Memory<Lanes>> x, y, back;  // by layer: inputs, outputs, dE/dx
  long outputs = 0;
};

// Adds each share of an array to the first
void add_up(const std::vector<Memory<double>>& shares, long count, double* total) {
  for (long i = 0; i < count; i++) total[i] = shares[0][i];
  for (size_t share = 1; share < shares.size(); share++)
    for (long i = 0; i < count; i++) total[i] += shares[share][i];
}

}  // namespace

// Shares of the atoms, whose number does not depend on that of threads, have forces of their own,
// which are added up in their order: the result does not depend on threads either.
template <class T> void evaluate(const DeepPotential<T>& p) {
  const long all = p.frames * p.atoms;
  auto wrapped = memory<double>(3 * all);
  for (long i = 0; i < all; i++)
    for (int c = 0; c < 3; c++) {
      const double* cell = p.cell + 9 * (i / p.atoms);
      const int32_t* home = p.home + 3 * i;
      wrapped[3 * i + c] = p.positions[3 * i + c] - home[0] * cell[c] - home[1] * cell[3 + c] -
                           home[2] * cell[6 + c];
    }
  std::vector<long> order;
  std::vector<std::pair<long, long>> blocks;  // first, count
  for (long type = 0; type < p.elements; type++) {
    const long first = order.size();
    for (long i = 0; i < all; i++)
      if (p.types[i] == type) order.push_back(i);
    for (long start = first, end = order.size(); start < end; start += Block<T>::ATOMS)
      blocks.emplace_back(start, std::min(Block<T>::ATOMS, end - start));
  }

  const long shares = std::clamp(long(order.size()) / PART, 1L, PARTS);
  auto energies = zeros<double>(p.members * all);
  std::vector<Memory<double>> forces(shares), virials(shares), atomic(shares);
  std::atomic<long> next{0};
  share_out(std::min(p.threads, shares), [&](long) {
    Block<T> block(p);
    for (long share; (share = next++) < shares;) {
      forces[share] = zeros<double>(3 * p.members * all);
      if (p.virial) virials[share] = zeros<double>(9 * p.members * p.frames);
      if (p.atomic) atomic[share] = zeros<double>(9 * p.members * all);
      for (long b = share * blocks.size() / shares; b < (share + 1) * long(blocks.size()) / shares; b++)
        block.evaluate(wrapped.get(), &order[blocks[b].first], blocks[b].second, energies.get(),
                       forces[share].get(), virials[share].get(), atomic[share].get());
    }
  });

  add_up(forces, 3 * p.members * all, p.forces);
  if (p.virial) add_up(virials, 9 * p.members * p.frames, p.virial);
  if (p.atomic) add_up(atomic, 9 * p.members * all, p.atomic);
  if (p.shares) std::copy_n(energies.get(), p.members * all, p.shares);
  for (long i = 0; i < p.members * p.frames; i++) {
    p.energy[i] = 0;
    for (long atom = 0; atom < p.atoms; atom++) p.energy[i] += energies[i * p.atoms + atom];
  }
}

template void evaluate<float>(const DeepPotential<float>&);
template void evaluate<double>(const DeepPotential<double>&);

}  // namespace kepton::LEVEL
