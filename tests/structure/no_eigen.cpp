// The umbrella and the door for those who train must not make every user pay for Eigen.

#include <moe/moe.hpp>
#include <moe/train.hpp>

#ifdef EIGEN_WORLD_VERSION
#error "moe.hpp or train.hpp includes Eigen, which only eigen.hpp and eigen_train.hpp may"
#endif
