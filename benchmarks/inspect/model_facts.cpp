#include "model_facts.hpp"

#include <algorithm>
#include <charconv>
#include <set>
#include <string_view>
#include <utility>

#include <moe/instantiate.hpp>
#include <moe/io.hpp>

#include "../layer_sizes.hpp"
#include "words.hpp"

namespace inspect {

namespace {

using Tensors = std::vector<moe::CheckpointTensor>;

const moe::CheckpointTensor& find(const Tensors& tensors, std::string_view name) {
    return *std::ranges::lower_bound(tensors, name, {}, [](const auto& one) { return std::string_view(one.name); });
}

/// The experts that the table of a hash gate has for each token; 0 where there is none.
std::size_t table_columns(const moe::Checkpoint& checkpoint, const Tensors& tensors, std::size_t layer,
                          const moe::MoEConfig& config) {
    if (config.gate == moe::GateKind::hash) {
        for (const std::string& name : checkpoint.tensors(layer)) {
            const moe::CheckpointTensor& tensor = find(tensors, name);
            if (tensor.shape.size() == 2 && (tensor.type == "I32" || tensor.type == "I64")) {
                return tensor.shape[1];
            }
        }
    }
    return 0;
}

void add_part(LayerGroup& group, const moe::StoredPart& part) {
    const auto row = std::ranges::find_if(
        group.rows, [&](const WeightRow& one) { return one.part == part.name && one.type == part.type; });
    WeightRow& into = row == group.rows.end() ? group.rows.emplace_back(WeightRow{part.name, part.type}) : *row;
    ++into.layers;
    into.tensors += part.tensors;
    into.weights += static_cast<double>(part.weights);
    into.bytes += static_cast<double>(part.bytes);
    const auto bytes = static_cast<double>(part.bytes);
    group.routed_bytes += part.routed ? bytes : 0;
    (part.routed || part.shared || part.name == "biases" ? group.expert_bytes : group.other_bytes) += bytes;
    const bool numbers = part.type == "F32" || part.type == "BF16" || part.type == "F16";
    group.codes = group.codes || (part.routed && !numbers);
}

/// Rows of one part stand together, those of most layers first.
void sort_rows(LayerGroup& group) {
    std::vector<std::string> order;
    for (const WeightRow& row : group.rows) {
        if (std::ranges::find(order, row.part) == order.end()) {
            order.push_back(row.part);
        }
    }
    std::ranges::stable_sort(group.rows, [&](const WeightRow& a, const WeightRow& b) {
        const auto place = [&](const WeightRow& row) { return std::ranges::find(order, row.part) - order.begin(); };
        return std::pair(place(a), b.layers) < std::pair(place(b), a.layers);
    });
}

/// Whether the tensor is in a layer behind the last: they predict more than the next token, and are not run for it.
bool behind_last(std::string_view name, std::size_t n_layers) {
    constexpr std::string_view begin = "model.layers.";
    if (name.starts_with("mtp.")) {
        return true;
    }
    std::size_t number = 0;
    return name.starts_with(begin) &&
           std::from_chars(name.data() + begin.size(), name.data() + name.size(), number).ec == std::errc{} &&
           number >= n_layers;
}

bool is_embedding(std::string_view name) {
    return std::ranges::any_of(
        std::array<std::string_view, 6>{"token_embd.weight", "embed_tokens.weight", "wte.weight",
                                        "word_embeddings.weight", "embed_in.weight", "embed.weight"},
        [&](std::string_view end) { return name.ends_with(end); });
}

OtherTensors other_tensors(const Tensors& tensors, const std::set<std::string>& in_layers, std::size_t n_layers) {
    const bool own_output = std::ranges::any_of(tensors, [](const moe::CheckpointTensor& tensor) {
        return tensor.name == "output.weight" || tensor.name.ends_with("lm_head.weight") ||
               tensor.name == "head.weight";
    });
    OtherTensors others;
    for (const moe::CheckpointTensor& tensor : tensors) {
        if (in_layers.contains(tensor.name)) {
            continue;
        }
        const auto weights = static_cast<double>(tensor.weights);
        const auto bytes = static_cast<double>(tensor.bytes);
        others.weights += weights;
        others.bytes += bytes;
        if (!(own_output && is_embedding(tensor.name)) && !behind_last(tensor.name, n_layers)) {
            others.active_weights += weights;
            others.active_bytes += bytes;
        }
    }
    return others;
}

double sum(const std::vector<LayerGroup>& groups, double (*of)(const LayerGroup&)) {
    double result = 0;
    for (const LayerGroup& group : groups) {
        result += of(group);
    }
    return result;
}

}  // namespace

moe::BytesPerWeight LayerGroup::bytes_per_weight() const {
    const auto count = static_cast<double>(cost.sizes().n_layers);
    const double experts =
        static_cast<double>(cost.sizes().n_experts) * cost.expert_parameters() + cost.shared_parameters();
    return {.experts = expert_bytes / (count * experts), .others = other_bytes / (count * cost.router_parameters())};
}

double ModelFacts::total_parameters() const {
    return others.weights + sum(groups, [](const LayerGroup& group) { return group.cost.total_parameters(); });
}

double ModelFacts::active_parameters() const {
    return others.active_weights + sum(groups, [](const LayerGroup& group) { return group.cost.active_parameters(); });
}

double ModelFacts::total_bytes() const {
    return others.bytes + sum(groups, [](const LayerGroup& group) { return group.expert_bytes + group.other_bytes; });
}

double ModelFacts::bytes_per_token() const {
    return others.active_bytes +
           sum(groups, [](const LayerGroup& group) { return group.cost.batch(1, group.bytes_per_weight()).bytes; });
}

std::size_t ModelFacts::sparse_layers() const { return n_layers - dense_layers.size(); }

ModelFacts facts_of(const moe::Checkpoint& checkpoint) {
    ModelFacts facts;
    facts.architecture = checkpoint.architecture();
    facts.n_layers = checkpoint.n_layers();
    const Tensors tensors = checkpoint.all_tensors();
    std::set<std::string> in_layers;
    std::vector<std::pair<std::string, std::vector<moe::StoredPart>>> looked_at;
    for (std::size_t i = 0; i < checkpoint.n_layers(); ++i) {
        if (!checkpoint.is_sparse(i)) {
            facts.dense_layers.push_back(i);
            continue;
        }
        const moe::MoEConfig config = checkpoint.config(i);
        const std::vector<moe::StoredPart> parts = checkpoint.parts(i);
        const std::size_t columns = table_columns(checkpoint, tensors, i, config);
        const std::string shape = shape_in_words(config, columns);
        const std::string routing = routing_in_words(config);
        // layers of equal words and parts have equal shapes: one of them is made, which checks all of them
        std::pair seen(shape + routing, parts);
        if (std::ranges::find(looked_at, seen) == looked_at.end()) {
            (void)checkpoint.layer(i);
            looked_at.push_back(std::move(seen));
        }
        auto group = std::ranges::find_if(
            facts.groups, [&](const LayerGroup& one) { return one.shape == shape && one.routing == routing; });
        if (group == facts.groups.end()) {
            const moe::CostModel cost(bench::layer_sizes(config, columns));
            facts.groups.push_back({.layers = {}, .shape = shape, .routing = routing, .rows = {}, .cost = cost});
            group = std::prev(facts.groups.end());
        }
        group->layers.push_back(i);
        for (const moe::StoredPart& part : parts) {
            add_part(*group, part);
        }
        for (std::size_t f = 0; f < packed_formats.size(); ++f) {
            group->packed[f] += static_cast<double>(checkpoint.packed_bytes(i, packed_formats[f]));
        }
        for (std::string& name : checkpoint.tensors(i)) {
            in_layers.insert(std::move(name));
        }
    }
    for (LayerGroup& group : facts.groups) {
        sort_rows(group);
        moe::ExpertSizes sizes = group.cost.sizes();
        sizes.n_layers = group.layers.size();
        group.cost = moe::CostModel(sizes);
    }
    facts.others = other_tensors(tensors, in_layers, checkpoint.n_layers());
    return facts;
}

}  // namespace inspect
