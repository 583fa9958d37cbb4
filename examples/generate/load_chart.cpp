#include "load_chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace generate {

namespace {

constexpr std::size_t bar_cells = 10;

/// A bar of `eighths` eighths of a cell, padded to `bar_cells`.
std::string bar(std::size_t eighths) {
    static constexpr const char* partial[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    std::string text;
    std::size_t cells = 0;
    for (; cells < eighths / 8; ++cells) {
        text += "█";
    }
    if (eighths % 8 != 0) {
        text += partial[eighths % 8];
        ++cells;
    }
    return text + std::string(bar_cells - std::min(cells, bar_cells), ' ');
}

double share(const LoadCounter& layer, std::size_t expert) {
    const auto& counts = layer.counts();
    const std::size_t sum = std::accumulate(counts.begin(), counts.end(), std::size_t{0});
    return static_cast<double>(counts[expert]) / static_cast<double>(std::max<std::size_t>(sum, 1));
}

/// Columns for layers [first, last); a full bar is a share of `full`.
void append_columns(const std::vector<LoadCounter>& layers, std::size_t first, std::size_t last, double full,
                    std::string& text) {
    char cell[32];
    text += "expert";
    for (std::size_t l = first; l < last; ++l) {
        std::snprintf(cell, sizeof cell, "  layer %-10zu", l);
        text += cell;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    for (std::size_t e = 0; e < layers[first].counts().size(); ++e) {
        std::snprintf(cell, sizeof cell, "\n%6zu", e);
        text += cell;
        for (std::size_t l = first; l < last; ++l) {
            const double part = share(layers[l], e);
            std::snprintf(cell, sizeof cell, "%5.1f%%", 100 * part);
            text += "  " + bar(static_cast<std::size_t>(std::lround(8 * bar_cells * part / full))) + cell;
        }
    }
    text += "\n";
}

}  // namespace

void LoadCounter::on_plan(const moe::RoutingRecord<float>& record) {
    const moe::PlanView<float>& plan = record.plan;
    counts_.resize(plan.n_experts);
    for (std::size_t e = 0; e < plan.n_experts; ++e) {
        counts_[e] += plan.tokens_of(e).size();
    }
}

std::string load_chart(const std::vector<LoadCounter>& layers) {
    double full = 0;
    for (const LoadCounter& layer : layers) {
        for (std::size_t e = 0; e < layer.counts().size(); ++e) {
            full = std::max(full, share(layer, e));
        }
    }
    std::string text;
    constexpr std::size_t side_by_side = 4;
    for (std::size_t first = 0; first < layers.size() && full > 0; first += side_by_side) {
        append_columns(layers, first, std::min(first + side_by_side, layers.size()), full, text);
    }
    return text;
}

}  // namespace generate
