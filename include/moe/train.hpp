#pragma once

/// The door for those who train: a forward pass that leaves a tape, the backward pass of a MoELayer, memory for its
/// gradients, a check of them against differences. moe.hpp does not include it.

#include "moe.hpp"
#include "train/backward.hpp"
#include "train/check_gradients.hpp"
#include "train/detached.hpp"
#include "train/gradients_of.hpp"
#include "train/numeric_gate.hpp"
#include "train/parts/gradients.hpp"
#include "train/parts/mutable_stack.hpp"
#include "train/parts/tape.hpp"
