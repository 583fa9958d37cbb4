#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace compare {

/// What the comparison of routing strategies, or that of costs, found: the one source of its table, JSON, CSV and page.

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

/// One step of a training that starts with a skewed router: collapse.hpp.
struct CollapseRow {
    std::string run;  ///< how it is balanced, or not
    std::size_t step = 0;
    double loss = 0;  ///< what is learnt: mean squared error over that of predicting 0
    double max_violation = 0;
    double variation = 0;
    double effective = 0;      ///< exp of the entropy of the load: as many experts, evenly used
    double router_norm = 0;    ///< of the gradient of the loss alone, by the router
    std::vector<double> load;  ///< (experts) share of the assignments
};

/// A strategy that a model was trained with: where it ended, means over the seeds.
struct TrainedRow {
    std::string strategy;
    bool causal = true;  ///< false where a token's experts depend on later tokens
    std::size_t seeds = 0;
    double nll = 0;        ///< held-out nats a byte
    double nll_least = 0;  ///< of the seeds
    double nll_most = 0;
    double train_nll = 0;          ///< over the last tenth of the steps
    double parameters = 0;         ///< of the model
    double active_parameters = 0;  ///< that take part for one byte, on average
    double operations = 0;         ///< of the whole training: 6 a byte and active parameter
    double seconds = 0;            ///< of the whole training: its steps at their median
    double max_violation = 0;  ///< the rest over the last tenth of the steps: of the loads of a step, mean over layers
    double entropy = 0;        ///< of a token's probabilities, over that of even ones
    double dead = 0;           ///< experts of a layer that a step leaves without tokens
    double dropped = 0;        ///< share of the choices
    double experts_per_token = 0;
    double router_norm = 0;  ///< of the gradients of all routers
    double expert_norm = 0;  ///< of the gradients of all experts
};

/// Some steps of one training of a strategy: means over those since the row before.
struct TrainingRow {
    std::string strategy;
    std::size_t seed = 0;
    std::size_t step = 0;      ///< done
    double operations = 0;     ///< so far
    double seconds = 0;        ///< so far
    double loss = 0;           ///< nats a byte of text to learn from
    double nll = 0;            ///< held-out nats a byte, or not finite: not measured here
    double max_violation = 0;  ///< as in TrainedRow
    double entropy = 0;
    double dead = 0;
    double dropped = 0;
    double experts_per_token = 0;
    double router_norm = 0;
    double expert_norm = 0;
    std::vector<double> load;  ///< (experts) share of the assignments in the last layer
};

/// The machine whose limits bound the speeds of CostRow.
struct CostMachine {
    std::size_t threads = 0;
    double bytes_per_second = 0;       ///< read from memory at most
    double flops_per_second = 0;       ///< in float32
    double int8_flops_per_second = 0;  ///< taken for int8 and int4: the fourfold, as the benchmark's roofline has it
    double memory_bytes = 0;           ///< of the machine; 0 where the system does not say
};

/// A model with experts. All numbers of parameters, bytes and operations are of `layers` layers with experts and, of a
/// whole model, all that is beside them.
struct CostModelRow {
    std::string model;
    std::string kind;  ///< published; layer: one layer of a model whose other parts are not known here; or reported
    std::size_t layers = 0;   ///< with experts; 0: not known
    std::size_t experts = 0;  ///< of a layer
    double experts_per_token = 0;
    std::size_t d_model = 0;  ///< 0: not known
    std::size_t d_ff = 0;     ///< of an expert; 0: not known
    double total_parameters = 0;
    double active_parameters = 0;  ///< that take part for one token
    double expert_share = 0;       ///< of the total: routed experts
    double bytes_f32 = 0;          ///< all weights in this format
    double bytes_bf16 = 0;
    double bytes_f16 = 0;
    double bytes_int8 = 0;
    double bytes_int4 = 0;
    std::string presets{};  ///< and names of checkpoints of the library, with spaces between them
    std::string shapes{};   ///< of the benchmark, likewise
    std::string note{};     ///< what is assumed
};

/// What one token of a batch costs, and how fast the limits of the machine allow it to be.
struct DemandOfToken {
    double bytes = 0;              ///< of weights that are read, a token
    double flops = 0;              ///< operations, a token
    double tokens_per_second = 0;  ///< tokens / max(flops / peak, bytes / bandwidth) of the batch
};

/// A model in a format with a batch of tokens, beside dense models of the same active and of the same total size.
struct CostRow {
    std::string model;
    std::string kind;  ///< as in CostModelRow
    std::string format;
    std::size_t tokens = 0;
    std::size_t experts = 0;
    double distinct_experts = 0;  ///< of a layer that the batch needs: E (1 - (1 - K/E)^T)
    DemandOfToken mixture{};
    DemandOfToken active{};     ///< the dense model of equal active size
    DemandOfToken total{};      ///< the dense model of equal total size
    double speedup_active = 0;  ///< the mixture's speed over that of the dense model, at most 1
    double speedup_total = 0;   ///< likewise, at least 1
    bool fits = false;          ///< all weights into the memory of the machine, or that is not known
};

struct Report {
    std::vector<std::pair<std::string, std::string>> context;  ///< machine, flags, versions, seed, options
    std::vector<SpeedRow> speed;
    std::vector<BalanceRow> balance;
    std::vector<QualityRow> quality;
    std::vector<CollapseRow> collapse;
    std::vector<TrainedRow> trained{};        ///< where models were trained
    std::vector<TrainingRow> training{};      ///< one after the other, by strategy, seed and step
    std::vector<CostMachine> cost_machine{};  ///< one, where costs were compared
    std::vector<CostModelRow> cost_models{};
    std::vector<CostRow> cost{};
};

}  // namespace compare
