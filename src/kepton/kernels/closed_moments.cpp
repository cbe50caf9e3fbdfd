// Closed systems of moments, step by step, compiled once for each level of instructions.
//
// Cells stand in the lanes; all that a step needs of a gas stays in a core's cache. The scheme, and
// where it comes from, are those of `kepton.closure.scheme.stepper`.

#include "closed_moments.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "vectors.h"
#include "workers.h"

namespace kepton::LEVEL {
namespace {

typedef double Lanes __attribute__((vector_size(BYTES), aligned(8), may_alias));
constexpr long WIDTH = BYTES / sizeof(double), GHOSTS = 3, LOWEST = 3;
constexpr long OUTPUTS = 4, SPAN = 2;  // a product's tile in registers
constexpr double NOTHING = 1e-20;

// Signals that are transformed at a time, on all levels: a gas has few
typedef double Four __attribute__((vector_size(32), aligned(8), may_alias));

inline Four& four(double* x) { return *reinterpret_cast<Four*>(x); }
inline Four four(const double* x) { return *reinterpret_cast<const Four*>(x); }
inline Lanes& at(double* x) { return *reinterpret_cast<Lanes*>(x); }
inline Lanes at(const double* x) { return *reinterpret_cast<const Lanes*>(x); }

inline long rounded(long count, long unit) { return (count + unit - 1) / unit * unit; }

// Fourier transforms of several complex signals at a time: for each radix R a matrix,
// y_{jR + k} = sum_l exp(-2 pi i (l k / R + j k / n)) x_{j + lm},  n = Rm, and then the m parts
// themselves, of which there are ever more side by side (Stockham)
struct Fourier {
  struct Stage {
    long radix, parts;
    std::vector<double> cosine, sine;  // (parts, radix, radix)
  };

  Fourier(long length, long signals)
      : length(length), signals(signals), real(size()), imaginary(size()) {
    for (long n = length; n > 1;) {
      long radix = n % 4 ? 2 : 4;
      while (n % radix) radix++;
      const long parts = n / radix;
      Stage stage{radix, parts, {}, {}};
      for (long j = 0; j < parts; j++)
        for (long k = 0; k < radix; k++)
          for (long l = 0; l < radix; l++) {
            const double turn = 2 * M_PI * double((l * parts + j) * k % n) / n;
            stage.cosine.push_back(std::cos(turn)), stage.sine.push_back(-std::sin(turn));
          }
      stages.push_back(stage);
      n = parts;
    }
  }

  long size() const { return length * signals; }

  // Arrays (length, signals)
  void transform(double* a, double* b) {
    double *c = real.data(), *d = imaginary.data();
    long side = signals;
    for (const Stage& stage : stages) {
      switch (stage.radix) {
        case 2: butterflies<2>(stage, side, a, b, c, d); break;
        case 3: butterflies<3>(stage, side, a, b, c, d); break;
        case 4: butterflies<4>(stage, side, a, b, c, d); break;
        case 5: butterflies<5>(stage, side, a, b, c, d); break;
        default: butterflies<0>(stage, side, a, b, c, d);
      }
      side *= stage.radix;
      std::swap(a, c), std::swap(b, d);
    }
    if (stages.size() % 2) {
      std::copy_n(a, length * signals, c);
      std::copy_n(b, length * signals, d);
    }
  }

  template <long Radix>
  static void butterflies(const Stage& stage, long side, const double* a, const double* b,
                          double* __restrict c, double* __restrict d) {
    const long radix = Radix ? Radix : stage.radix, step = stage.parts * side;
    const double *cosine = stage.cosine.data(), *sine = stage.sine.data();
    for (long j = 0; j < stage.parts; j++)
      for (long i = j * side; i < (j + 1) * side; i += 4)
        for (long k = 0; k < radix; k++) {
          const long row = (j * radix + k) * radix, out = i + (j * (radix - 1) + k) * side;
          Four x = {}, y = {};
          for (long l = 0; l < radix; l++) {
            const Four u = four(a + i + l * step), v = four(b + i + l * step);
            x += cosine[row + l] * u - sine[row + l] * v;
            y += cosine[row + l] * v + sine[row + l] * u;
          }
          four(c + out) = x, four(d + out) = y;
        }
  }

  const long length, signals;
  std::vector<Stage> stages;
  std::vector<double> real, imaginary;
};

// One gas at a time: rows of `stride` doubles, a row a kind of molecules and moment or velocity
class Gas {
 public:
  explicit Gas(const ClosedMoments& p)
      : p(p), count(p.velocities), height(rounded(count, OUTPUTS)),
        stride(rounded(p.cells + 1, SPAN * WIDTH)), row(p.kinds * stride),
        to(height * count), of(height * count), c(count * row), before(count * row),
        ahead(count * row), parts(count * row), faces(count * row + 1), target(count * row),
        rest(count * row), padded(stride + 2 * GHOSTS + WIDTH), root(count + 1), factorial(count, 1.0),
        pairs(rounded((count - LOWEST) * p.kinds, 8) / 2),
        waves(p.boundary == PERIODIC ? p.cells : 2 * p.cells, pairs), real(waves.size()),
        imaginary(waves.size()), sums(waves.size()), differences(waves.size()) {
    for (long n = 0; n <= count; n++) root[n] = std::sqrt(double(n));
    for (long n = 1; n < count; n++) factorial[n] = factorial[n - 1] * root[n];
    for (auto& some : lanes) some.resize(count * WIDTH);
    std::copy_n(p.to_molecules, count * count, to.data());
    std::copy_n(p.of_molecules, count * count, of.data());
  }

  void solve(long gas) {
    this->gas = gas;
    const long rows = count * p.kinds;
    for (long r = 0; r < rows; r++)
      std::copy_n(p.moments + (r * p.gases + gas) * p.cells, p.cells, &c[r * stride]);
    for (long t = 0; t < p.times; t++) {
      const double length = p.step_length[t * p.gases + gas];
      prepare(t);
      for (long step = p.steps[t * p.gases + gas]; step > 0; step--) advance(length);
      for (long r = 0; r < rows; r++)
        std::copy_n(&c[r * stride], p.cells,
                    p.found + ((t * rows + r) * p.gases + gas) * p.cells);
    }
  }

 private:
  void advance(double length) {
    const double collisions = p.gamma * length / p.knudsen[gas];
    fly(c.data(), before.data(), p.gamma * length);
    relax(before.data(), collisions);
    const double beyond = 1 / p.gamma - 2;
    for (long i = 0; i < count * row; i += WIDTH) {
      const Lanes middle = at(&target[i]) + at(&rest[i]);
      at(&ahead[i]) = middle + beyond * (middle - at(&before[i]));
    }
    fly(ahead.data(), c.data(), (1 - p.gamma) * length);
    relax(c.data(), collisions);
    for (long i = 0; i < LOWEST * row; i += WIDTH) at(&c[i]) = at(&target[i]) + at(&rest[i]);
    damp();
  }

  // ------------------------------------------------------------------------------- flight

  void fly(const double* from, double* to_, double time) {
    product(to.data(), from, nullptr, parts.data());
    for (long j = 0; j < count; j++)
      for (long kind = 0; kind < p.kinds; kind++) {
        pad(j, kind);
        const double swept = std::fabs(way(j, time));
        double* out = &faces[j * row + kind * stride];
        if (j < count / 2)
          cross<-1>(&padded[2 * GHOSTS - 1], swept, out);
        else
          cross<1>(&padded[0], swept, out);
      }
    if (p.boundary == INFLOW || p.boundary == DIFFUSIVE) enter();
    for (long j = 0; j < count; j++) {
      const double distance = way(j, time);
      for (long i = j * row; i < (j + 1) * row; i += WIDTH)
        at(&parts[i]) = distance * (at(&faces[i]) - at(&faces[i] + 1));
    }
    product(of.data(), parts.data(), from, to_);
  }

  double way(long j, double time) const {
    return time * p.cells * p.velocity[gas * count + j];
  }

  // Averages over cells of one velocity, with what is beyond the ends
  void pad(long j, long kind) {
    const long n = p.cells;
    const double* x = &parts[j * row + kind * stride];
    const double* mirrored = &parts[(count - 1 - j) * row + kind * stride];
    std::copy_n(x, n, &padded[GHOSTS]);
    for (long i = 0; i < GHOSTS; i++) {
      double &left = padded[GHOSTS - 1 - i], &right = padded[GHOSTS + n + i];
      if (p.boundary == PERIODIC)
        left = x[n - 1 - i], right = x[i];
      else if (p.boundary == REFLECTING)
        left = mirrored[i], right = mirrored[n - 1 - i];
      else
        left = x[0] + (i + 1) * (x[0] - x[1]), right = x[n - 1] + (i + 1) * (x[n - 1] - x[n - 2]);
    }
  }

  // `transport.at_faces`, of molecules that fly in the Direction
  template <long Direction> void cross(const double* x, double s, double* out) {
    for (long i = 0; i <= p.cells; i += WIDTH, x += WIDTH) {
      const Lanes a = at(x), b = at(x + Direction), c = at(x + 2 * Direction),
                  d = at(x + 3 * Direction), e = at(x + 4 * Direction);
      const Lanes bend0 = a - 2 * b + c, bend1 = b - 2 * c + d, bend2 = c - 2 * d + e;
      const Lanes first = a - 4 * b + 3 * c, second = b - d, third = 3 * c - 4 * d + e;
      const Lanes behind = 3 * (c - b), onward = 3 * (d - c);
      const Lanes rough0 = 13.0 / 12 * bend0 * bend0 + 0.25 * first * first + NOTHING;
      const Lanes rough1 = 13.0 / 12 * bend1 * bend1 + 0.25 * second * second + NOTHING;
      const Lanes rough2 = 13.0 / 12 * bend2 * bend2 + 0.25 * third * third + NOTHING;
      const Lanes differ = (rough0 - rough2) * (rough0 - rough2);
      const Lanes b0 = rough0 * rough0, b1 = rough1 * rough1, b2 = rough2 * rough2;
      const Lanes w0 = (1 + s) * (2 + s) * (b0 + differ) * (b1 * b2);
      const Lanes w1 = 2 * (2 + s) * (3 - s) * (b1 + differ) * (b0 * b2);
      const Lanes w2 = (2 - s) * (3 - s) * (b2 + differ) * (b0 * b1);
      const Lanes sum = w0 * (behind + (2 - s) * bend0) + w1 * (onward - (1 + s) * bend1) +
                        w2 * (onward - (1 + s) * bend2);
      at(out + i) = c + (1 - s) / 6 * sum / (w0 + w1 + w2);
    }
  }

  // Gas that flows in, or molecules that a wall sends back with its temperature
  void enter() {
    for (long side = 0; side < 2; side++) {
      const long end = side ? p.cells : 0;
      const auto inwards = [&](long j) { return side ? j < count / 2 : j >= count - count / 2; };
      const auto beyond = [&](long j, long kind) {
        return p.outside[((gas * p.kinds + kind) * count + j) * 2 + side];
      };
      double share = 1;
      if (p.boundary == DIFFUSIVE) {
        double arriving = 0, leaving = 0;
        for (long j = 0; j < count; j++) {
          const double speed = std::fabs(p.velocity[gas * count + j]);
          (inwards(j) ? leaving : arriving) +=
              speed * (inwards(j) ? beyond(j, 0) : faces[j * row + end]);
        }
        share = arriving / leaving;
      }
      for (long j = 0; j < count; j++)
        for (long kind = 0; kind < p.kinds; kind++)
          if (inwards(j)) faces[j * row + kind * stride + end] = share * beyond(j, kind);
    }
  }

  // y = x0 + matrix x, all rows; without x0 y = matrix x
  void product(const double* matrix, const double* x, const double* x0, double* y) const {
    for (long i = 0; i < row; i += SPAN * WIDTH)
      for (long first = 0; first < count; first += OUTPUTS) {
        Lanes sum[OUTPUTS][SPAN] = {};
        for (long k = 0; k < count; k++)
          for (long o = 0; o < OUTPUTS; o++)
            for (long v = 0; v < SPAN; v++)
              sum[o][v] += matrix[(first + o) * count + k] * at(x + k * row + i + v * WIDTH);
        for (long o = 0; o < OUTPUTS && first + o < count; o++)
          for (long v = 0; v < SPAN; v++) {
            const long place = (first + o) * row + i + v * WIDTH;
            at(y + place) = x0 ? at(x0 + place) + sum[o][v] : sum[o][v];
          }
      }
  }

  // --------------------------------------------------------------------------- collisions

  // What collisions make of moments: target + rest
  void relax(const double* from, double collisions) {
    const double slowed = p.forgetting ? 1 : 1 / (1 + collisions), rate = collisions / p.prandtl;
    for (long x = 0; x < stride; x += WIDTH) {
      const Lanes rho = at(from + x), mean = at(from + row + x) / rho;
      Lanes along = 1 + std::sqrt(2.0) * at(from + 2 * row + x) / rho - mean * mean, across = along;
      if (p.kinds == 2) {
        const Lanes theta = (along + 2 * at(from + stride + x) / rho) / 3;
        along = (along + rate * theta) / (1 + rate);
        along = p.forgetting ? theta : theta / p.prandtl + (1 - 1 / p.prandtl) * along;
        across = 0.5 * (3 * theta - along);
      }
      Lanes last = {}, gaussian = rho;
      for (long n = 0; n < count; n++) {
        for (long kind = 0; kind < p.kinds; kind++) {
          const long place = n * row + kind * stride + x;
          const Lanes aim = kind ? across * gaussian : gaussian;
          at(&target[place]) = aim;
          at(&rest[place]) = slowed * (at(from + place) - aim);
        }
        const Lanes next = (mean * gaussian + (along - 1) * root[n] * last) * (1 / root[n + 1]);
        last = gaussian, gaussian = next;
      }
      if (p.forgetting) forget(x, mean, along, collisions * rho);
    }
  }

  // `Boltzmann.collided`: what collisions with the local Maxwellian leave of the rest
  void forget(long x, Lanes mean, Lanes variance, Lanes collisions) {
    double *g = lanes[0].data(), *h = lanes[1].data();
    for (long n = 0; n < count; n++)
      for (long kind = 0; kind < 2; kind++)
        at(&lanes[kind][n * WIDTH]) = at(&rest[n * row + kind * stride + x]);
    move(mean, 1 - variance);
    for (long i = 0; i < count * WIDTH; i += WIDTH) at(h + i) = variance * at(g + i) - at(h + i);
    for (long d = 0; d < count + 2; d++) {
      const double *forgets = p.forgetting + 4 * d, cosine = forgets[0], sine = forgets[1];
      double *there = g + d * WIDTH, *across = h + (d - 2) * WIDTH;
      const Lanes first = d < count ? at(there) : Lanes{}, second = d < 2 ? Lanes{} : at(across);
      const Lanes one = (cosine * first + sine * second) / (1 + forgets[2] * collisions);
      const Lanes other = (cosine * second - sine * first) / (1 + forgets[3] * collisions);
      if (d < count) at(there) = cosine * one - sine * other;
      if (d >= 2) at(across) = sine * one + cosine * other;
    }
    for (long i = 0; i < count * WIDTH; i += WIDTH) at(h + i) = variance * at(g + i) - at(h + i);
    move(-mean, variance - 1);
    for (long n = 0; n < count; n++)
      for (long kind = 0; kind < 2; kind++)
        at(&rest[n * row + kind * stride + x]) = at(&lanes[kind][n * WIDTH]);
  }

  // Lanes of moments c_n made those about another mean, with another variance:
  // sqrt(n!) sum_m p_{n - m} c_m / sqrt(m!),  sum_j p_j t^j = exp(-w t + e t^2 / 2)
  void move(Lanes w, Lanes e) {
    double* power = lanes[2].data();
    at(power) = Lanes{} + 1, at(power + WIDTH) = -w;
    for (long j = 1; j < count - 1; j++)
      at(power + (j + 1) * WIDTH) =
          (e * at(power + (j - 1) * WIDTH) - w * at(power + j * WIDTH)) * (1.0 / (j + 1));
    for (long kind = 0; kind < 2; kind++) {
      double* c = lanes[kind].data();
      for (long n = 0; n < count; n++) at(c + n * WIDTH) *= 1 / factorial[n];
      for (long n = count - 1; n >= 0; n--) {
        Lanes sum = at(c + n * WIDTH);
        for (long m = 0; m < n; m++) sum += at(power + (n - m) * WIDTH) * at(c + m * WIDTH);
        at(c + n * WIDTH) = factorial[n] * sum;
      }
    }
  }

  // c_n = target + what damping leaves of the rest, n >= 3: each wave of each row has a factor. Two
  // rows are one complex signal, a + ib, of which wave k becomes
  // ((f_a + f_b) Z_k + (f_a - f_b) Z*_{-k}) / 2
  void damp() {
    const long rows = (count - LOWEST) * p.kinds, length = waves.length, cells = p.cells;
    for (long r = 0; r < rows; r++) {
      const double* x = &rest[LOWEST * row + r * stride];
      double* z = part(r);
      for (long i = 0; i < cells; i++) z[i * pairs] = x[i];
      if (length == cells) continue;
      const double turned = p.boundary == REFLECTING && (LOWEST + r / p.kinds) % 2 ? -1 : 1;
      for (long i = 0; i < cells; i++) z[(length - 1 - i) * pairs] = turned * x[i];
    }
    for (long r = rows; r < 2 * pairs; r++)
      for (long i = 0; i < length; i++) part(r)[i * pairs] = 0;
    waves.transform(real.data(), imaginary.data());
    double *a = waves.real.data(), *b = waves.imaginary.data();
    for (long k = 0; k < length; k++)
      for (long i = 0; i < pairs; i += 4) {
        const long here = k * pairs + i, there = (k ? length - k : 0) * pairs + i;
        const Four sum = four(&sums[here]), difference = four(&differences[here]);
        four(a + here) = sum * four(&real[here]) + difference * four(&real[there]);
        four(b + here) = sum * four(&imaginary[here]) - difference * four(&imaginary[there]);
      }
    std::swap(real, waves.real), std::swap(imaginary, waves.imaginary);
    waves.transform(imaginary.data(), real.data());  // back, since parts have changed places
    for (long r = 0; r < rows; r++) {
      const long place = LOWEST * row + r * stride;
      const double* z = part(r);
      for (long i = 0; i < cells; i++) c[place + i] = target[place + i] + z[i * pairs];
    }
  }

  double* part(long r) { return (r % 2 ? imaginary.data() : real.data()) + r / 2; }

  // Of the factors of both rows of a pair, half the sum and half the difference
  void prepare(long t) {
    const long rows = (count - LOWEST) * p.kinds, length = waves.length, half = length / 2 + 1;
    const auto factors = [&](long r) { return p.kept + ((t * rows + r) * p.gases + gas) * half; };
    for (long r = 0; r < rows; r += 2)
      for (long k = 0; k < length; k++) {
        const long wave = std::min(k, length - k), place = k * pairs + r / 2;
        const double f = factors(r)[wave], g = r + 1 < rows ? factors(r + 1)[wave] : f;
        sums[place] = (f + g) / 2 / length, differences[place] = (f - g) / 2 / length;
      }
  }

  const ClosedMoments& p;
  const long count, height, stride, row;
  std::vector<double> to, of, c, before, ahead, parts, faces, target, rest, padded, root,
      factorial;  // square roots of n, and of n!
  std::vector<double> lanes[3];
  const long pairs;
  Fourier waves;
  std::vector<double> real, imaginary, sums, differences;
  long gas = 0;
};

}  // namespace

void solve(const ClosedMoments& p) {
  std::atomic<long> next{0};
  share_out(std::min(p.threads, p.gases), [&](long) {
    Gas gas(p);
    for (long number; (number = next++) < p.gases;) gas.solve(number);
  });
}

}  // namespace kepton::LEVEL
