#include "trained_table.hpp"

#include <algorithm>

#include "text.hpp"

namespace compare {

namespace {

/// "1.4012..1.4101", or the one value that a single seed has.
std::string range(double least, double most) { return least == most ? nats(least) : nats(least) + ".." + nats(most); }

std::string seeds_text(const std::vector<TrainedRow>& rows) {
    const auto [least, most] = std::ranges::minmax(rows, {}, &TrainedRow::seeds);
    const std::string number = std::to_string(least.seeds);
    return least.seeds != most.seeds ? number + " to " + std::to_string(most.seeds) + " seeds"
           : least.seeds == 1        ? number + " seed"
                                     : number + " seeds";
}

std::vector<std::string> cells_of(const TrainedRow& row) {
    return {printable(row.strategy) + (row.causal ? "" : " *"),
            nats(row.nll),
            range(row.nll_least, row.nll_most),
            nats(row.train_nll),
            rounded(row.experts_per_token),
            rounded(1e-3 * row.parameters),
            rounded(1e-3 * row.active_parameters),
            rounded(1e-9 * row.operations),
            rounded(row.seconds),
            rounded(row.max_violation),
            rounded(row.entropy),
            tally(row.dead),
            percent(row.dropped),
            rounded(row.router_norm),
            rounded(row.expert_norm)};
}

}  // namespace

std::string trained_text(const std::vector<TrainedRow>& rows) {
    if (rows.empty()) {
        return "";
    }
    Grid grid({"strategy", "nats/byte", "least..most", "training", "experts/token", "10^3 par", "active", "GFLOP", "s",
               "max viol", "entropy", "dead", "dropped", "router grad", "expert grad"});
    for (const TrainedRow& row : rows) {
        grid.add(cells_of(row));
    }
    std::string text = "\ntrained\n" + grid.text("  ");
    text += "\n  nats/byte: of held-out text, mean of " + seeds_text(rows) + ", and the least and most of them\n";
    text +=
        "  training: of the text to learn from, over the last tenth of the steps, as are all from max viol on\n"
        "  10^3 par, active: thousands of parameters of the model, and of those that take part for one byte\n"
        "  GFLOP, s: of the whole training; entropy: of a token's probabilities, 1 where they are even; dead: experts\n"
        "  of a layer that a step leaves without tokens; grad: norm of the gradients of all routers, of all experts\n";
    if (!std::ranges::all_of(rows, &TrainedRow::causal)) {
        text += "  * not causal: the experts of a token depend on later ones, so nothing can be generated with it\n";
    }
    return text + "  the steps of all trainings are in the files (--json, --csv, --html)\n";
}

}  // namespace compare
