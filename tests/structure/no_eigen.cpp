// The umbrella must not make every user pay for Eigen.

#include <moe/moe.hpp>

#ifdef EIGEN_WORLD_VERSION
#error "moe.hpp includes Eigen, which only eigen.hpp and train.hpp may"
#endif
