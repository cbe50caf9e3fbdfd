// Who is within reach of whom, all periodic images included: a search by cells of half the reach.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "workers.h"

namespace {

constexpr long IMAGES = 15;  // along a cell vector, as many as an image packs

long floor_of(long a, long b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

struct Search {
  long atoms, elements;
  const double* positions;  // (n, 3)
  const int32_t* types;     // (n,): the element's place, -1 where padded
  const double *cell, *inverse;
  const uint8_t* periodic;
  double reach;
  const int64_t* widths;  // slots of each element
  int32_t *index, *home;  // (n, m), (n, 3)
  int16_t* image;         // (n, m)
  int64_t* most;          // neighbours of each element
};

class Cells {
 public:
  explicit Cells(const Search& given) : p(given) {
    for (long e = 0; e < p.elements; e++) slots += p.widths[e];
    std::vector<double> scaled(3 * p.atoms);
    double low[3] = {}, high[3] = {1, 1, 1};
    for (int k = 0; k < 3; k++) {
      if (!p.periodic[k]) low[k] = INFINITY, high[k] = -INFINITY;
      for (long i = 0; i < p.atoms; i++) {
        const double* x = p.positions + 3 * i;
        double f = x[0] * p.inverse[k] + x[1] * p.inverse[3 + k] + x[2] * p.inverse[6 + k];
        p.home[3 * i + k] = p.periodic[k] ? std::floor(f) : 0;
        f -= p.home[3 * i + k];
        scaled[3 * i + k] = f;
        if (!p.periodic[k] && p.types[i] >= 0)
          low[k] = std::min(low[k], f), high[k] = std::max(high[k], f);
      }
    }
    // about half the reach wide, and no more of them than a few for each atom, however far one strays
    double size[3], wanted[3];
    for (int k = 0; k < 3; k++) {
      const double height = 1 / std::hypot(p.inverse[k], p.inverse[3 + k], p.inverse[6 + k]);
      const double length = height * (high[k] - low[k]);
      size[k] = length > 1e-9 ? std::min(length, 1e15) : 1e-9;
      wanted[k] = std::max(1.0, size[k] / (0.5 * p.reach));
    }
    while (wanted[0] * wanted[1] * wanted[2] > 4.0 * p.atoms + 64) {
      double& most = *std::max_element(wanted, wanted + 3);
      most = std::max(1.0, 0.8 * most);
    }
    for (int k = 0; k < 3; k++) {
      counts[k] = wanted[k];
      around[k] = std::ceil(p.reach * counts[k] / size[k] * (1 + 1e-9));
      if (!p.periodic[k]) around[k] = std::min(around[k], counts[k] - 1);
    }

    const long cells = counts[0] * counts[1] * counts[2];
    std::vector<long> at(p.atoms);
    first.assign(p.elements * cells + 1, 0);
    for (long i = 0; i < p.atoms; i++) {
      at[i] = p.types[i];
      if (at[i] < 0) continue;
      for (int k = 0; k < 3; k++) {
        const double share = (scaled[3 * i + k] - low[k]) / std::max(high[k] - low[k], 1e-300);
        at[i] = at[i] * counts[k] + std::clamp(long(share * counts[k]), 0L, counts[k] - 1);
      }
      first[at[i] + 1]++;
    }
    for (size_t c = 1; c < first.size(); c++) first[c] += first[c - 1];
    std::vector<long> next = first;
    order.resize(first.back()), x.resize(first.back()), y.resize(first.back()),
        z.resize(first.back());
    for (long i = 0; i < p.atoms; i++) {
      if (at[i] < 0) continue;
      const long place = next[at[i]]++;
      const int32_t* h = p.home + 3 * i;
      order[place] = i;
      double* to[3] = {&x[place], &y[place], &z[place]};
      for (int c = 0; c < 3; c++)
        *to[c] = p.positions[3 * i + c] - h[0] * p.cell[c] - h[1] * p.cell[3 + c] -
                 h[2] * p.cell[6 + c];
    }
  }

  long size() const { return order.size(); }

  // Lists the neighbours of the atoms in one cell; false where an image is too far to be packed
  bool list(long cell, std::vector<int64_t>& most) const {
    const long place[3] = {cell / counts[2] / counts[1], cell / counts[2] % counts[1],
                           cell % counts[2]};
    const long cells = counts[0] * counts[1] * counts[2];
    struct Range {
      long first, end, image;
      double shift[3];
    };
    std::vector<Range> ranges;
    std::vector<double> square;
    long start = 0;
    for (long other = 0; other < p.elements; start += p.widths[other++]) {
      ranges.clear();
      for (long a = place[0] - around[0]; a <= place[0] + around[0]; a++)
        for (long b = place[1] - around[1]; b <= place[1] + around[1]; b++) {
          const long sa = floor_of(a, counts[0]), sb = floor_of(b, counts[1]);
          if ((sa && !p.periodic[0]) || (sb && !p.periodic[1])) continue;
          const long row = ((other * counts[0] + a - sa * counts[0]) * counts[1] + b -
                            sb * counts[1]) * counts[2];
          const long low = place[2] - around[2], high = place[2] + around[2];
          for (long sc = floor_of(low, counts[2]); sc <= floor_of(high, counts[2]); sc++) {
            if (sc && !p.periodic[2]) continue;
            const long begin = first[row + std::max(low - sc * counts[2], 0L)];
            const long end = first[row + std::min(high - sc * counts[2], counts[2] - 1) + 1];
            if (begin == end) continue;
            if (std::max({std::labs(sa), std::labs(sb), std::labs(sc)}) > IMAGES) return false;
            Range range{begin, end, (sa * 32 + sb) * 32 + sc, {}};
            for (int k = 0; k < 3; k++)
              range.shift[k] = sa * p.cell[k] + sb * p.cell[3 + k] + sc * p.cell[6 + k];
            ranges.push_back(range);
          }
        }
      for (long own = 0; own < p.elements; own++)
        for (long i = first[own * cells + cell]; i < first[own * cells + cell + 1]; i++) {
          int32_t* index = p.index + order[i] * slots + start;
          int16_t* image = p.image + order[i] * slots + start;
          const long width = p.widths[other];
          long found = 0;
          for (const Range& range : ranges) {
            const double dx = range.shift[0] - x[i], dy = range.shift[1] - y[i],
                         dz = range.shift[2] - z[i];
            const long count = range.end - range.first;
            square.resize(std::max<size_t>(square.size(), count));
            const double *xs = &x[range.first], *ys = &y[range.first], *zs = &z[range.first];
            for (long j = 0; j < count; j++) {
              const double a = xs[j] + dx, b = ys[j] + dy, c = zs[j] + dz;
              square[j] = a * a + b * b + c * c;
            }
            if (!range.image && range.first <= i && i < range.end) square[i - range.first] = INFINITY;
            for (long j = 0; j < count; j++) {
              if (!(square[j] < p.reach * p.reach)) continue;
              if (found < width) index[found] = order[range.first + j], image[found] = range.image;
              found++;
            }
          }
          most[other] = std::max<int64_t>(most[other], found);
          for (; found < width; found++) index[found] = -1, image[found] = 0;
        }
    }
    return true;
  }

  long cells() const { return counts[0] * counts[1] * counts[2]; }

 private:
  const Search& p;
  long slots = 0, counts[3], around[3];
  std::vector<long> first, order;  // by element and cell
  std::vector<double> x, y, z;
};

}  // namespace

// Lists of b frames, one after the other. Every element's slots are filled up with -1; `most` says how
// many each would need. Returns 1 where an image is too far to be packed, else 0.
extern "C" int kepton_neighbors(long frames, long atoms, long elements, const double* positions,
                                const int32_t* types, const double* cell, const double* inverse,
                                const uint8_t* periodic, double reach, const int64_t* widths,
                                int32_t* index, int16_t* image, int32_t* home, int64_t* most,
                                long threads) {
  std::fill(most, most + elements, 0);
  long slots = 0;
  for (long e = 0; e < elements; e++) slots += widths[e];
  std::atomic<bool> far{false};
  for (long f = 0; f < frames; f++) {
    const Search search{atoms, elements, positions + 3 * f * atoms, types + f * atoms, cell + 9 * f,
                        inverse + 9 * f, periodic + 3 * f, reach, widths, index + f * atoms * slots,
                        home + 3 * f * atoms, image + f * atoms * slots, most};
    const Cells cells(search);
    std::atomic<long> next{0};
    const long workers = std::clamp(cells.size() / 1000, 1L, threads);
    std::vector<std::vector<int64_t>> found(workers, std::vector<int64_t>(elements, 0));
    kepton::share_out(workers, [&](long worker) {
      for (long c; (c = next++) < cells.cells();)
        if (!cells.list(c, found[worker])) far = true;
    });
    for (const auto& one : found)
      for (long e = 0; e < elements; e++) most[e] = std::max(most[e], one[e]);
  }
  return far;
}
