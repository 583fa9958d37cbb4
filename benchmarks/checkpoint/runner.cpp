#include "runner.hpp"

#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <moe/io.hpp>

#include "../formatted.hpp"
#include "../memory.hpp"
#include "../probes/bfloat16.hpp"
#include "../probes/clock.hpp"
#include "../probes/fma.hpp"
#include "../probes/read.hpp"
#include "../reference.hpp"
#include "../row.hpp"
#include "layer_calls.hpp"

namespace bench::checkpoint {

namespace {

moe::Compute compute_of(Compute compute) {
    switch (compute) {
        case Compute::exact: return moe::Compute::exact;
        case Compute::int8: return moe::Compute::int8;
        case Compute::bf16x3: return moe::Compute::bf16x3;
        case Compute::bf16: return moe::Compute::bf16;
    }
    return {};
}

std::size_t first_sparse(const moe::Checkpoint& checkpoint) {
    std::size_t layer = 0;
    while (layer < checkpoint.n_layers() && !checkpoint.is_sparse(layer)) {
        ++layer;
    }
    moe::ensure(layer < checkpoint.n_layers(), moe::ErrorCode::not_found, "no layer of the model has experts");
    return layer;
}

/// The layer of the checkpoint, and what its rows are held against.
class Runner {
public:
    Runner(const Options& options, const moe::Checkpoint& checkpoint, std::size_t layer)
        : options_(options),
          threads_(options.threads),
          checkpoint_(checkpoint),
          layer_(layer),
          config_(checkpoint.config(layer)),
          vocabulary_(vocabulary(checkpoint, layer)),
          budget_(static_cast<double>(available_memory()) * static_cast<double>(options.memory) / 100),
          in_place_(checkpoint.layer(layer)),
          read_(threads_, read_probe_bytes(budget_)) {
        const auto add = [&](Shape& shape) {
            shape.n_experts = config_.n_experts;
            shape.d_model = config_.d_model;
            shape.d_ff = config_.d_ff;
            shape.shared_d_ff = config_.shared_d_ff;
        };
        add(shape_);
        std::string types;
        for (const moe::StoredPart& part : checkpoint.parts(layer)) {
            if (part.routed) {
                stored_bytes_ += static_cast<double>(part.bytes);
                codes_ = codes_ || (part.type != "F32" && part.type != "BF16" && part.type != "F16");
                types += (types.empty() ? "" : ", ") + part.name + " " + part.type;
            }
        }
        std::printf("%s: %s, layer %zu of %zu, %zu experts, %d a token, d_model %zu, d_ff %zu; %s; %zu thread%s\n",
                    options.model.c_str(), checkpoint.architecture().c_str(), layer, checkpoint.n_layers(),
                    config_.n_experts, config_.routing.top_k, config_.d_model, config_.d_ff, types.c_str(),
                    threads_.concurrency(), threads_.concurrency() == 1 ? "" : "s");
        std::printf("%-9s %7s %7s %10s %10s %10s %8s %9s\n", "weights", "compute", "tokens", "ms", "95 %", "tokens/s",
                    "roofline", "nmse");
    }

    void in_place() { rows_of("in place", Compute::exact, in_place_, stored_bytes_); }

    void packed(Compute compute) {
        const auto bytes = static_cast<double>(checkpoint_.packed_bytes(layer_));
        moe::ensure(budget_ == 0 || bytes < budget_, moe::ErrorCode::capacity, "the layer needs ", bytes / 1e6,
                    " MB packed, more than the ", budget_ / 1e6, " MB of --memory");
        const auto layer = checkpoint_.pack(layer_, moe::Format::as_stored, threads_, compute_of(compute));
        const double routed = static_cast<double>(shape_.n_experts * shape_.expert_weights());
        rows_of("packed", compute, layer, bytes * routed / static_cast<double>(shape_.weights()));
    }

    /// What weights are computed with where nothing is asked for.
    [[nodiscard]] Compute usual() const noexcept { return codes_ ? Compute::int8 : Compute::exact; }
    [[nodiscard]] bool right() const noexcept { return right_; }

private:
    /// `bytes` of the routed experts.
    void rows_of(const char* weights, Compute compute, const moe::AnyLayer<float>& layer, double bytes) {
        for (const std::size_t tokens : options_.tokens) {
            LayerCalls calls(layer, config_, {tokens, vocabulary_}, threads_);
            const double error = error_of(calls, tokens);
            const bool wrong = !(error <= 10 * tolerance(compute, tokens * config_.d_model));
            Row row = timed(calls, tokens);
            row.compute = compute;
            row.weight_bytes = bytes * calls.distinct_experts() / static_cast<double>(shape_.n_experts);
            std::printf("%-9s %7s %7zu %10.4g %10.4g %10.4g %7.0f%% %9.1e%s\n", weights, info(compute).name.data(),
                        tokens, 1e3 * row.seconds.median, 1e3 * row.seconds.p95,
                        static_cast<double>(tokens) / row.seconds.median, 100 * row.fraction_of_roofline(), error,
                        wrong ? "  WRONG RESULT" : "");
            std::fflush(stdout);
            right_ = right_ && !wrong;
        }
    }

    /// Of the first call, against the weights in place, whose products are exact.
    [[nodiscard]] double error_of(LayerCalls& calls, std::size_t tokens) {
        LayerCalls exact(in_place_, config_, {tokens, vocabulary_}, threads_);
        exact.run(0);
        calls.run(0);
        return relative_error(moe::view(calls.output().data(), tokens, config_.d_model), exact.output());
    }

    /// Probes and the layer in turns, so that all see the same disturbances.
    [[nodiscard]] Row timed(LayerCalls& calls, std::size_t tokens) {
        std::vector<double> library;
        std::vector<double> fma;
        std::vector<double> bfloat16;
        std::vector<double> read;
        double spent = 0;
        for (std::size_t round = 0; round < 3 || spent < options_.min_time; ++round) {
            fma.push_back(fma_peak(threads_));
            bfloat16.push_back(bfloat16_peak(threads_));
            read.push_back(read_({}));
            const std::size_t before = library.size();
            time_slice(library, calls);
            for (std::size_t i = before; i < library.size(); ++i) {
                spent += library[i];
            }
        }
        Row row;
        row.seconds = Statistics(std::move(library));
        row.fma_peak = Statistics(std::move(fma)).median;
        row.bfloat16_peak = Statistics(std::move(bfloat16)).median;
        row.read_bandwidth = Statistics(std::move(read)).median;
        const double chosen = static_cast<double>(config_.routing.top_k) * static_cast<double>(config_.n_experts) /
                              static_cast<double>(config_.n_routed());
        row.operations =
            2 * static_cast<double>(tokens) *
            (chosen * static_cast<double>(shape_.expert_weights()) + static_cast<double>(shape_.shared_weights()));
        return row;
    }

    const Options& options_;
    Threads threads_;
    const moe::Checkpoint& checkpoint_;
    std::size_t layer_;
    moe::MoEConfig config_;
    std::size_t vocabulary_;
    double budget_;  ///< bytes
    moe::AnyLayer<float> in_place_;
    ReadProbe read_;
    Shape shape_{};
    double stored_bytes_ = 0;
    bool codes_ = false;
    bool right_ = true;
};

}  // namespace

bool run(const Options& options) {
    const auto checkpoint = moe::Checkpoint::open(options.model);
    Runner runner(options, checkpoint, options.layer.value_or(first_sparse(checkpoint)));
    if (options.in_place) {
        runner.in_place();
    }
    if (options.computes.empty()) {
        runner.packed(runner.usual());
        return runner.right();
    }
    std::string refused;
    std::size_t ran = 0;
    for (const Compute compute : options.computes) {
        try {
            runner.packed(compute);
            ++ran;
        } catch (const moe::Error& error) {
            if (error.code() != moe::ErrorCode::range) {  // a compute that these weights or this processor have not
                throw;
            }
            refused = error.what();
            std::printf("packed    %7s is not there: %s\n", info(compute).name.data(), refused.c_str());
        }
    }
    moe::ensure(ran > 0, moe::ErrorCode::range, refused.c_str());
    return runner.right();
}

}  // namespace bench::checkpoint
