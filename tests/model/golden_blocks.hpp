#pragma once

#include <string>
#include <vector>

#include <moe/moe.hpp>

namespace moe_test {

/// One file of golden/blocks: which preset builds it, what its small configuration changes, and where its tensors are.
struct GoldenBlock {
    std::string file;
    moe::MoEConfig config;  // the preset, resized
    std::string router = "gate.weight";
    std::string router_bias{};
    std::string selection_bias{};
    std::string experts = "experts.";  // prefix of gate_up_proj and down_proj
    std::string gate_up = "gate_up_proj";
    std::string down = "down_proj";
    std::string shared{};  // prefix of the shared expert's projections
    std::string shared_gate{};
    std::string output_bias{};
};

/// All of them; every block has d_model 40, d_ff 28 and 29 tokens.
std::vector<GoldenBlock> golden_blocks();

}  // namespace moe_test
