#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "../formatted.hpp"
#include "words.hpp"

namespace inspect {

namespace {

using bench::formatted;

std::string layers_of(std::size_t count) { return formatted(count == 1 ? "%zu layer" : "%zu layers", count); }

std::string group_text(const LayerGroup& group) {
    std::string text = formatted("\nlayer%s %s\n", group.layers.size() == 1 ? "" : "s", ranges(group.layers).c_str());
    text += "  " + group.shape + "\n  " + group.routing + "\n";
    std::size_t widest = 0;
    std::size_t widest_type = 4;
    for (const WeightRow& row : group.rows) {
        widest = std::max(widest, row.part.size());
        widest_type = std::max(widest_type, row.type.size());
    }
    const auto name = static_cast<int>(widest);
    const auto type = static_cast<int>(widest_type);
    text += formatted("\n  %-*s  %-*s  %6s  %14s  %11s\n", name, "", type, "type", "layers", "bits a weight", "bytes");
    for (const WeightRow& row : group.rows) {
        const std::string bits = row.weights > 0 ? formatted("%.2f", 8 * row.bytes / row.weights) : "-";
        text += formatted("  %-*s  %-*s  %6zu  %14s  %11s\n", name, row.part.c_str(), type, row.type.c_str(),
                          row.layers, bits.c_str(), bytes_text(row.bytes).c_str());
    }
    return text;
}

std::string parameters_text(const ModelFacts& facts) {
    double experts = 0;
    double active = 0;
    double bytes = 0;
    double active_bytes = 0;
    for (const LayerGroup& group : facts.groups) {
        experts += group.cost.total_parameters();
        active += group.cost.active_parameters();
        bytes += group.expert_bytes + group.other_bytes;
        active_bytes += group.cost.batch(1, group.bytes_per_weight()).bytes;
    }
    const auto row = [](const char* what, double all, double all_bytes, double for_token, double token_bytes) {
        return formatted("  %-26s  %14s  %9s  %14s  %9s\n", what, count_text(all).c_str(),
                         bytes_text(all_bytes).c_str(), count_text(for_token).c_str(), bytes_text(token_bytes).c_str());
    };
    std::string text =
        formatted("\n  %-26s  %14s  %9s  %14s  %9s\n", "parameters", "all", "bytes", "for a token", "bytes");
    text += row("experts and routers", experts, bytes, active, active_bytes);
    const OtherTensors& others = facts.others;
    if (others.bytes > 0) {
        text += row("all other tensors", others.weights, others.bytes, others.active_weights, others.active_bytes);
        text += row("model", facts.total_parameters(), facts.total_bytes(), facts.active_parameters(),
                    facts.bytes_per_token());
    } else {
        text += "  the file has no other tensors: attention and embeddings are not in these numbers\n";
    }
    return text;
}

}  // namespace

std::string model_text(const std::string& path, const ModelFacts& facts) {
    std::filesystem::path named(path);
    if (!named.has_filename()) {
        named = named.parent_path();
    }
    std::string text = named.filename().string() + ": " + facts.architecture + ", " + layers_of(facts.n_layers);
    if (facts.dense_layers.empty()) {
        text += ", all of them with experts\n";
    } else if (facts.groups.empty()) {
        text += ", none with experts\n";
    } else {
        text +=
            formatted(", %zu with experts (dense: %s)\n", facts.sparse_layers(), ranges(facts.dense_layers).c_str());
    }
    for (const LayerGroup& group : facts.groups) {
        text += group_text(group);
    }
    return text + parameters_text(facts);
}

LeastSeconds least_seconds(const ModelFacts& facts, const Limits& limits, std::size_t tokens) {
    LeastSeconds least;
    for (const LayerGroup& group : facts.groups) {
        least.experts += group.cost.batch(tokens, group.bytes_per_weight())
                             .seconds({.flops_per_second = group.codes ? limits.integer_flops : limits.float_flops,
                                       .bytes_per_second = limits.bytes_per_second});
    }
    const double flops = 2 * facts.others.active_weights * static_cast<double>(tokens);
    least.model =
        least.experts + std::max(flops / limits.float_flops, facts.others.active_bytes / limits.bytes_per_second);
    return least;
}

std::string speed_text(const ModelFacts& facts, const Limits& limits, std::span<const std::size_t> tokens) {
    std::string text = formatted(
        "\nat most, by what this machine does on %zu thread%s: %s/s read, %s Gflop/s float32, %s Gop/s int8\n",
        limits.threads, limits.threads == 1 ? "" : "s", bytes_text(limits.bytes_per_second).c_str(),
        number_text(limits.float_flops / 1e9).c_str(), number_text(limits.integer_flops / 1e9).c_str());
    const bool others = facts.others.bytes > 0;
    text += formatted("  %8s  %24s  %24s\n", "tokens", "experts alone, tokens/s", others ? "model, tokens/s" : "");
    for (const std::size_t count : tokens) {
        const LeastSeconds least = least_seconds(facts, limits, count);
        const auto speed = [&](double seconds) { return number_text(static_cast<double>(count) / seconds); };
        text += formatted("  %8zu  %24s  %24s\n", count, speed(least.experts).c_str(),
                          others ? speed(least.model).c_str() : "");
    }
    if (others) {
        text += "  products of attention with its cache are not counted\n";
    }
    return text;
}

std::string measured_text(const ModelFacts& facts, const MeasuredLayer& measured) {
    std::string text = formatted("\nmeasured: layer %zu on %zu thread%s, packed as stored in %s s, %s of experts\n",
                                 measured.layer, measured.threads, measured.threads == 1 ? "" : "s",
                                 number_text(measured.packing_seconds).c_str(), bytes_text(measured.bytes).c_str());
    text += "  " + measured.kernel + "\n";
    const std::size_t layers = facts.sparse_layers();
    const std::string all = formatted("all %zu such layers", layers);
    text += formatted("  %8s  %12s  %20s  %20s\n", "tokens", "ms", "this layer, tokens/s", all.c_str());
    for (const MeasuredSpeed& speed : measured.speeds) {
        const double rate = static_cast<double>(speed.tokens) / speed.seconds;
        text += formatted("  %8zu  %12s  %20s  %20s\n", speed.tokens, number_text(1e3 * speed.seconds).c_str(),
                          number_text(rate).c_str(), number_text(rate / static_cast<double>(layers)).c_str());
    }
    if (measured.cache > 0 && measured.bytes < 4 * measured.cache) {
        text += formatted("  the layer is small beside the cache of %s, in which a model's layers replace each other\n",
                          bytes_text(measured.cache).c_str());
    }
    return text;
}

std::string plan_text(const ModelFacts& facts, const Memory& memory) {
    constexpr double share = 0.1;
    const double budget = memory.free * (1 - share);
    std::string text =
        formatted("\nmemory: %s, of which %s are free; %.0f %% of these stay for caches, activations and the system\n",
                  bytes_text(memory.total).c_str(), bytes_text(memory.free).c_str(), 100 * share);
    text += formatted("  %-22s  %10s  %10s  %10s\n", "", "experts", "others", "all");
    double in_files = 0;
    double others = facts.others.bytes;
    for (const LayerGroup& group : facts.groups) {
        in_files += group.expert_bytes;
        others += group.other_bytes;
    }
    const auto row = [&](const char* what, double experts, const char* too_large) {
        const double all = experts + others;
        const std::string verdict = all <= budget ? "fits, " + bytes_text(budget - all) + " to spare"
                                                  : bytes_text(all - budget) + " too large" + too_large;
        return formatted("  %-22s  %10s  %10s  %10s  %s", what, bytes_text(experts).c_str(), bytes_text(others).c_str(),
                         bytes_text(all).c_str(), verdict.c_str());
    };
    text += row("in place, as mapped", in_files, ": the system reads what has no place again and again") + "\n";
    for (std::size_t f = 0; f < packed_formats.size(); ++f) {
        double experts = 0;
        for (const LayerGroup& group : facts.groups) {
            experts += group.packed[f];
        }
        constexpr std::array names{"packed as stored", "packed int8", "packed int4"};
        text += row(names[f], experts, "");
        const auto layers = static_cast<double>(facts.sparse_layers());
        const double fitting = experts > 0 ? (budget - others) / (experts / layers) : layers;
        if (experts + others > budget) {
            text += formatted("; experts of %.0f of %.0f layers fit", std::max(0.0, std::floor(fitting)), layers);
        }
        text += "\n";
    }
    return text;
}

}  // namespace inspect
