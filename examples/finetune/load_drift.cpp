#include "load_drift.hpp"

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <numeric>
#include <vector>

namespace finetune {

namespace {

/// In percent.
std::vector<double> shares_of(const moe::RoutingCounts& counts) {
    const double sum = std::accumulate(counts.counts.begin(), counts.counts.end(), 0.0);
    std::vector<double> shares;
    for (const auto count : counts.counts) {
        shares.push_back(100 * static_cast<double>(count) / sum);
    }
    return shares;
}

template <class... Values>
void add(std::string& text, const char* format, Values... values) {
    char line[128];
    std::snprintf(line, sizeof line, format, values...);
    text += line;
}

}  // namespace

std::string load_drift(std::span<const moe::RoutingCounts> before, std::span<const moe::RoutingCounts> after) {
    std::vector<std::vector<double>> from;
    std::vector<std::vector<double>> to;
    std::string text = "expert";
    for (std::size_t i = 0; i < before.size(); ++i) {
        from.push_back(shares_of(before[i]));
        to.push_back(shares_of(after[i]));
        add(text, "  %11s %zu", "layer", i);
    }
    const std::size_t n_experts = before.empty() ? 0 : from.front().size();
    std::vector<double> moved(before.size());
    std::size_t layer = 0;
    std::size_t expert = 0;
    for (std::size_t e = 0; e < n_experts; ++e) {
        add(text, "\n%6zu", e);
        for (std::size_t i = 0; i < before.size(); ++i) {
            add(text, "  %5.1f > %5.1f", from[i][e], to[i][e]);
            const double change = std::abs(to[i][e] - from[i][e]);
            moved[i] += change / 2;
            if (change > std::abs(to[layer][expert] - from[layer][expert])) {
                layer = i;
                expert = e;
            }
        }
    }
    text += "\n moved";
    for (const double part : moved) {
        add(text, "  %13.1f", part);
    }
    if (n_experts > 0) {
        add(text, "\nmost: expert %zu of layer %zu, by %+.1f of its layer's %%\n", expert, layer,
            to[layer][expert] - from[layer][expert]);
    }
    return text;
}

}  // namespace finetune
