#pragma once

#include <span>

#include "../../core/index.hpp"

namespace moe::inline MOE_ABI {

/// An expert that has tokens, as a Residency is asked about it.
struct WantedExpert {
    ExpertId expert = 0;
    bool there = true;         ///< to be set: its weights are in memory, or somebody else sees to that
    bool begins_wave = false;  ///< to be set: those before it are computed to the end first, see Residency
};

/// Weights that need not be in memory: derive, and pass it in ForwardOptions. A pass then tells which experts it will
/// use before it does, each once a batch, and computes those that are there while others are read. It changes the order
/// of the work, never that of a sum: the output has the same bits whatever is said here.
///
/// A batch is one wave, unless its experts do not fit into memory at once. Of each wave the hidden activations are
/// computed and then added to y, before the next; while one is computed, the next is asked for. So two of them have to
/// fit, and no expert is read twice.
///
/// Used by MoELayer, with any gate, AnyLayer and LatentLayer. The other layers, and passes that only route, do not call
/// it. It serves one pass at a time. May throw: the pass then ends with that exception.
class Residency {
public:
    Residency() = default;
    Residency(const Residency&) = default;
    Residency& operator=(const Residency&) = default;
    virtual ~Residency() = default;

    /// Once a batch, by the worker that made the plan, unless no expert has tokens: which it will use, ascending.
    virtual void want(std::span<WantedExpert> experts) = 0;

    /// Begins to read an expert that is not there, and does not wait. In the order of need, once each, by any worker.
    virtual void ask(ExpertId expert) = 0;

    /// Returns when it is there. By any worker, once, after it was asked for. Others may already compute with it then:
    /// this is about time, what they read must be right in any case.
    virtual void bring(ExpertId expert) = 0;
};

}  // namespace moe::inline MOE_ABI
