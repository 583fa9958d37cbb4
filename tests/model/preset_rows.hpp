#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "moe/model/storage_order.hpp"
#include "moe/reference/layer/layer.hpp"

namespace moe_test {

struct PublishedSizes {
    std::size_t n_experts = 0;
    std::size_t top_k = 0;
    std::size_t d_model = 0;
    std::size_t d_ff = 0;
    std::size_t shared_d_ff = 0;
};

/// A form in the words of the definition.
struct FormRow {
    moe::reference::Form form = moe::reference::Form::swiglu;
    double limit = 7;  // read by clamped forms
};

/// A published architecture as its own code describes it, in the words of the definition; nothing here is made of a
/// preset. `rule.top_k` is that of `sizes`.
struct PresetRow {
    std::string name;
    PublishedSizes sizes;
    moe::reference::TokenChoiceRule rule{};
    bool selection_bias = false;
    bool router_bias = false;
    bool expert_bias = false;
    bool per_expert_scale = false;
    bool group_limited = false;  // its code has groups, if only one in this checkpoint
    bool by_table = false;       // experts are those of a table of token ids
    FormRow form{};
    FormRow shared_form{};
    moe::reference::Shared shared_mode = moe::reference::Shared::add;
    double routed_scale = 1;
    moe::StorageOrder memory{moe::JoinedAs::concatenated, false, false};
    moe::StorageOrder shared_memory{};
    bool file_known = true;
    moe::StorageOrder file{};
    moe::StorageOrder shared_file{};
};

/// Every preset without a golden block of its own.
std::vector<PresetRow> preset_rows();

}  // namespace moe_test
