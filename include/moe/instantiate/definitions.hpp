#pragma once

#include "../experts/expert.hpp"
#include "../experts/packed_blocks.hpp"
#include "../experts/packed_experts.hpp"
#include "../layer/any_layer.hpp"
#include "../model/make_layer.hpp"

/// What instantiate.hpp declares: to be included by one file of a program.

#define MOE_INSTANTIATE template
#include "list.hpp"
#undef MOE_INSTANTIATE
