#include "bars.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "../bars.hpp"
#include "../formatted.hpp"

namespace bench::backward {

namespace {

using Kind = Bar::Kind;

struct Column {
    Kind kind;
    std::string_view title;
};
constexpr std::array columns{Column{Kind::peak, "of peak"},     Column{Kind::roofline, "of roof"},
                             Column{Kind::backward, "bwd/fwd"}, Column{Kind::threads, "threads"},
                             Column{Kind::eigen, "eigen"},      Column{Kind::onednn, "onednn"}};

}  // namespace

std::vector<Bar> bars_of(const Row& row) {
    std::vector<Bar> bars;
    if (row.wrong || std::ranges::count(bar_shapes, row.shape->name) == 0 || row.n_experts != row.shape->n_experts) {
        return bars;
    }
    if (row.tokens == 512) {
        bars.push_back({Kind::roofline, row.fraction_of_roofline(), 0.75});
    } else if (row.tokens == 2048) {
        bars.push_back({Kind::peak, row.fraction_of_peak(), 0.66});
    } else {
        return bars;
    }
    bars.push_back({Kind::backward, row.backward_over_forward(), 2.3});
    if (row.threads == 2 && row.one_thread.both.samples > 0) {
        bars.push_back({Kind::threads, row.speedup_threads(), 1.85});
    }
    for (const auto& [rival, kind] : {std::pair(Rival::eigen, Kind::eigen), std::pair(Rival::onednn, Kind::onednn)}) {
        if (row.rivals.contains(rival)) {
            bars.push_back({kind, row.speedup(rival), 1.0});
        }
    }
    return bars;
}

std::string bars_text(std::span<const Row> rows) {
    std::string lines;
    std::size_t met = 0;
    std::size_t all = 0;
    for (const Row& row : rows) {
        const std::vector<Bar> bars = bars_of(row);
        if (bars.empty()) {
            continue;
        }
        lines += formatted("%-18s %6zu%c", row.shape->name.data(), row.tokens, row.note.empty() ? ' ' : '~');
        for (const Column& column : columns) {
            const auto bar = std::ranges::find(bars, column.kind, &Bar::kind);
            if (bar == bars.end()) {
                lines += formatted("%8s ", "-");
                continue;
            }
            lines += formatted("%8.3f%c", bar->figure, bar->met() ? ' ' : '!');
            ++all;
            met += bar->met() ? 1U : 0U;
        }
        lines += "\n";
    }
    if (all == 0) {
        return "\nbars: none of these rows has one\n";
    }
    std::string text =
        "\nbars: of the peak at least 0.66, of the roofline 0.75, backward at most 2.3 times forward, two threads at "
        "least 1.85 times as fast as one, ahead of rivals; ! missed, ~ the note of the row has a reason not to believe "
        "it\n";
    text += formatted("%-18s %6s ", "shape", "tokens");
    for (const Column& column : columns) {
        text += formatted("%8s ", column.title.data());
    }
    return text + "\n" + lines + formatted("%zu of %zu bars are met\n", met, all);
}

}  // namespace bench::backward
