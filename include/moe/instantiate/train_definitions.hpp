#pragma once

#include "../train/backward.hpp"
#include "definitions.hpp"

/// What instantiate_train.hpp declares, and all of instantiate.hpp: to be included by one file of a program that
/// trains.

#define MOE_INSTANTIATE template
#include "train_list.hpp"
#undef MOE_INSTANTIATE
