// `pair_style kepton`: a Deep Potential in LAMMPS by Kepton's kernel.
#pragma once

#include <cstdint>
#include <vector>

#include "model_file.h"
#include "pair.h"

namespace LAMMPS_NS {

class PairKepton : public Pair {
 public:
  explicit PairKepton(LAMMPS*);
  ~PairKepton() override;

  void settings(int, char**) override;
  void coeff(int, char**) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;
  void* extract(const char*, int&) override;
  void* extract_peratom(const char*, int&) override;
  int pack_reverse_comm(int, int, double*) override;
  void unpack_reverse_comm(int, int*, double*) override;
  double memory_usage() override;

 private:
  void allocate();
  void assign_types(std::vector<int32_t>&) const;
  void list_neighbors();
  void evaluate();
  void share_virial();
  void compare_members();

  kepton::Model model;
  std::vector<int> places;            // of LAMMPS's types among the elements, from 1; -1: none
  std::vector<int32_t> elements;      // (local and ghosts,): the place of each atom's element
  std::vector<int32_t> centres;       // the same, -1 for ghosts
  std::vector<int32_t> index;         // (local, slots): neighbours, by element
  std::vector<kepton::Segment> segments;
  long slots = 0;
  std::vector<int16_t> image;         // (local, slots): zero, since images are ghosts here
  std::vector<int32_t> home;          // (local and ghosts, 3): zero
  std::vector<double> energy, shares, forces, moments, atomic;  // by member
  std::vector<double> deviation;      // (local,) eV/Å
  int deviation_wanted = 0;           // what `fix pair` sets
  bigint deviation_step = -1;         // of `deviation`
};

}  // namespace LAMMPS_NS
