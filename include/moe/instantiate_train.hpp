#pragma once

#include "instantiate.hpp"
#include "train.hpp"

/// instantiate.hpp for those who train: all of train.hpp, with the kernels and passes of both directions declared as
/// compiled elsewhere. The one file of the program that compiles them then includes instantiate/train_definitions.hpp.

#define MOE_INSTANTIATE extern template
#include "instantiate/train_list.hpp"
#undef MOE_INSTANTIATE
