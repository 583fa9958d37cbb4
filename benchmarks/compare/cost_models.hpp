#pragma once

#include <string>
#include <vector>

#include <moe/model/moe_config.hpp>
#include <moe/stats/cost.hpp>

namespace compare {

/// A model whose cost is computed.
struct CostedModel {
    std::string name;
    moe::CostModel cost;
    bool whole = true;      ///< false: one layer, of a model whose other parts are not known here
    bool reported = false;  ///< by others than its maker, and never confirmed
    std::string presets{};  ///< and names of checkpoints of the library that mean it, with spaces between them
    std::string shapes{};   ///< of the benchmark, likewise
    std::string note{};     ///< what is assumed
};

/// All models there is a name for, each once: published checkpoints, then presets and shapes that are none of those, as
/// one layer, then reported models; each kind by rising total.
[[nodiscard]] std::vector<CostedModel> costed_models();

/// The presets of the library, then the checkpoints it has names for. A hash gate is left out: how many experts a token
/// takes is in its table.
[[nodiscard]] std::vector<moe::MoEConfig> named_presets();

}  // namespace compare
