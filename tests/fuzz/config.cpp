#include <moe/io/checkpoint/hugging_face_config.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/support.hpp"

// An input is the text of a config.json.

namespace {

using namespace moe_test::fuzz;
using moe::detail::ConfigKeys;
using moe::detail::DescribedModel;
using moe::detail::JsonKind;
using moe::detail::JsonNode;
using moe::detail::JsonTree;

/// Each value is reached once, none at more levels than there may be.
std::size_t count_values(const JsonTree& tree, const JsonNode& node, std::size_t depth) {
    confirm(depth <= JsonTree::max_depth, "values nest no deeper than allowed");
    std::size_t count = 1;
    for (const JsonNode* child = tree.first_of(node); child != nullptr; child = tree.next_of(*child)) {
        confirm(node.kind == JsonKind::object || node.kind == JsonKind::array, "only objects and arrays hold values");
        confirm(node.kind == JsonKind::array || tree.find(node, tree.key_of(*child)) == child,
                "a value is found by its key");
        count += count_values(tree, *child, depth + 1);
    }
    return count;
}

/// As Checkpoint::open reads it.
DescribedModel described(const JsonTree& tree) {
    const std::string_view context = "config";
    const ConfigKeys keys(tree, context);
    std::vector<std::string_view> names = keys.all_texts("model_type");
    for (const std::string_view name : keys.all_texts("architectures")) {
        names.push_back(name);
    }
    return moe::detail::HuggingFaceConfig(keys, moe::detail::find_architecture(names, context)).describe();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    std::optional<JsonTree> tree;
    if (!accepted([&] { tree.emplace(text, "config"); })) {
        return 0;
    }
    confirm(count_values(*tree, tree->root(), 0) <= size, "a value has a byte at least");
    DescribedModel model;
    if (!accepted([&] { model = described(*tree); })) {
        return 0;
    }
    taken = true;
    confirm(!model.architecture.empty() && !model.layers.empty(), "a model has a name and layers");
    confirm(model.layers.size() <= 2 * moe::detail::max_layers && model.n_encoder_layers <= model.layers.size(),
            "a model has no more layers than it may");
    for (const std::optional<moe::MoEConfig>& layer : model.layers) {
        confirm(!layer || accepted([&] { layer->validate(); }), "a layer described is one that can be");
    }
    return 0;
}
