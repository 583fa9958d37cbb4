#pragma once

/// The door for those who train: a forward pass that leaves a tape, the backward pass, memory for gradients and a check
/// of them against differences, losses of the routing, optimisers. moe.hpp does not include it.

#include "moe.hpp"
#include "train/backward.hpp"
#include "train/check_gradients.hpp"
#include "train/detached.hpp"
#include "train/gradients_of.hpp"
#include "train/losses/counts.hpp"
#include "train/losses/entropy.hpp"
#include "train/losses/importance.hpp"
#include "train/losses/l1_loss.hpp"
#include "train/losses/load_balance.hpp"
#include "train/losses/noisy_load.hpp"
#include "train/losses/orthogonality.hpp"
#include "train/losses/pooled_load_balance.hpp"
#include "train/losses/z_loss.hpp"
#include "train/numeric_gate.hpp"
#include "train/optimizer/adamw.hpp"
#include "train/optimizer/gradient_views.hpp"
#include "train/optimizer/gradients.hpp"
#include "train/optimizer/sgd.hpp"
#include "train/parameters.hpp"
#include "train/parts/gradients.hpp"
#include "train/parts/mutable_stack.hpp"
#include "train/parts/tape.hpp"
