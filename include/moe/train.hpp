#pragma once

/// The door for those who train: a forward pass that leaves a tape, the backward pass of a MoELayer, and optimisers.
/// moe.hpp does not include it.

#include "moe.hpp"
#include "train/backward.hpp"
#include "train/detached.hpp"
#include "train/numeric_gate.hpp"
#include "train/optimizer/adamw.hpp"
#include "train/optimizer/gradient_views.hpp"
#include "train/optimizer/gradients.hpp"
#include "train/optimizer/sgd.hpp"
#include "train/parameters.hpp"
#include "train/parts/gradients.hpp"
#include "train/parts/mutable_stack.hpp"
#include "train/parts/tape.hpp"
