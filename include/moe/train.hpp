#pragma once

/// The door for those who train: forward passes that leave a tape, and the backward passes of all layers. moe.hpp does
/// not include it.

#include "moe.hpp"
#include "train/backward.hpp"
#include "train/detached.hpp"
#include "train/hierarchical_backward.hpp"
#include "train/latent_backward.hpp"
#include "train/neuron_backward.hpp"
#include "train/numeric_gate.hpp"
#include "train/parts/gradients.hpp"
#include "train/parts/mutable_stack.hpp"
#include "train/parts/tape.hpp"
#include "train/soft_moe_backward.hpp"
