#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace compare {

/// What the comparison of routing strategies found: the one source of its table, JSON, CSV and page.

/// Seconds of one arm over its repetitions.
struct Spread {
    double min = 0;
    double median = 0;
    double p95 = 0;
};

/// A strategy at one shape and number of tokens.
struct SpeedRow {
    std::string strategy;
    std::string shape;
    std::size_t tokens = 0;
    Spread seconds;               ///< one forward pass
    double route_seconds = 0;     ///< medians by phase: logits and gate
    double dispatch_seconds = 0;  ///< plan
    double hidden_seconds = 0;    ///< gate and up projections of the experts
    double output_seconds = 0;    ///< down projections, combined as they are computed
    double tokens_per_second = 0;
    double speedup_active = 0;  ///< over a dense FFN of equal active cost
    double speedup_total = 0;   ///< over a dense FFN of equal total size
    double active_experts = 0;  ///< experts with tokens
    double load_min = 0;        ///< tokens an expert
    double load_median = 0;
    double load_max = 0;
    bool noisy = false;  ///< the spread makes the row meaningless
};

/// How a strategy spreads the tokens of one input.
struct BalanceRow {
    std::string strategy;
    std::string input;  ///< tiny-mixtral, zipf, one-hot
    int layer = -1;     ///< of tiny-mixtral, or -1
    std::size_t tokens = 0;
    std::size_t experts = 0;
    double max_violation = 0;  ///< max load / mean - 1
    double variation = 0;      ///< standard deviation / mean
    double gini = 0;
    double entropy = 0;  ///< of the load, 1 where it is even
    double dead = 0;     ///< experts without tokens
    double dropped = 0;  ///< share of the choices
    double experts_per_token = 0;
    double confidence = 0;     ///< mean of the largest weight of a token
    std::vector<double> load;  ///< (experts) share of the assignments
};

/// What tiny-mixtral makes of held-out text when its routers are read by a strategy.
struct QualityRow {
    std::string strategy;
    double nll = 0;      ///< nats a byte
    double compute = 0;  ///< share of all experts that is computed
    double dropped = 0;  ///< share of the choices
    bool causal = true;  ///< false where a token's experts depend on later tokens
};

/// One step of a run that starts with a skewed router.
struct CollapseRow {
    std::string run;  ///< with or without balancing
    std::size_t step = 0;
    double max_violation = 0;
    double variation = 0;
    std::vector<double> load;  ///< (experts) share of the assignments
};

struct Report {
    std::vector<std::pair<std::string, std::string>> context;  ///< machine, flags, versions, seed, options
    std::vector<SpeedRow> speed;
    std::vector<BalanceRow> balance;
    std::vector<QualityRow> quality;
    std::vector<CollapseRow> collapse;
};

}  // namespace compare
