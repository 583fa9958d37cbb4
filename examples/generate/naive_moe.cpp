#include "naive_moe.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <utility>

namespace generate {

namespace {

using Clock = std::chrono::steady_clock;

constexpr Eigen::Index most_tokens = 256;

Eigen::Index index(std::size_t value) { return static_cast<Eigen::Index>(value); }

/// What some tokens bring to one block.
struct Batch {
    Matrix x;
    moe::RoutingPlan<float> plan;
};

/// Batches of equal size, and for each of them its inputs to all blocks.
using Workload = std::vector<std::vector<Batch>>;

class Comparison {
public:
    Comparison(const Model& model, const std::string& directory, const Threads& threads)
        : model_(&model), threads_(threads) {
        const Checkpoint weights(directory + "/model.safetensors");
        for (std::size_t layer = 0; layer < model.layers().size(); ++layer) {
            naive_.emplace_back(weights, layer, model.config());
        }
        const Checkpoint reference(directory + "/reference.safetensors");
        const std::vector<std::int32_t> text = reference.tokens("text", model.config().vocab_size);
        const Eigen::Index n = std::min({index(text.size()), most_tokens, model.config().max_positions});
        Decoder(model, threads).append(std::span(text).first(static_cast<std::size_t>(n)), &inputs_);
    }

    /// Tokens there are.
    [[nodiscard]] Eigen::Index tokens() const { return inputs_.front().rows(); }

    [[nodiscard]] MoESpeed measure(Eigen::Index batch_tokens) {
        const Workload workload = make_workload(batch_tokens);
        check(workload);
        const std::array<int, 2> eigen_threads{1, static_cast<int>(threads_.concurrency())};
        std::vector<double> library;
        std::array<std::vector<double>, 2> naive;
        const Clock::time_point start = Clock::now();
        for (int turn = 0; turn < 3 || (turn < 100 && Clock::now() - start < std::chrono::milliseconds(300)); ++turn) {
            library.push_back(seconds(workload, [&](std::size_t i, const Batch& batch) { run_library(i, batch); }));
            for (std::size_t way = 0; way < naive.size(); ++way) {
                Eigen::setNbThreads(eigen_threads[way]);
                naive[way].push_back(seconds(
                    workload, [&](std::size_t i, const Batch& batch) { naive_[i].forward(batch.x, batch.plan, y_); }));
            }
            Eigen::setNbThreads(1);
        }
        const double tokens = static_cast<double>(workload.size()) * static_cast<double>(batch_tokens);
        return {static_cast<std::size_t>(batch_tokens), tokens / median(library),
                tokens / std::min(median(naive[0]), median(naive[1]))};
    }

private:
    [[nodiscard]] Workload make_workload(Eigen::Index batch_tokens) {
        Workload workload;
        for (Eigen::Index first = 0; first + batch_tokens <= tokens(); first += batch_tokens) {
            std::vector<Batch>& batches = workload.emplace_back();
            for (std::size_t i = 0; i < naive_.size(); ++i) {
                Batch& batch = batches.emplace_back();
                batch.x = inputs_[i].middleRows(first, batch_tokens);
                model_->layers()[i].moe.route(moe::view(std::as_const(batch.x)), batch.plan, workspace_);
            }
        }
        return workload;
    }

    void run_library(std::size_t i, const Batch& batch) {
        y_.resize(batch.x.rows(), batch.x.cols());
        model_->layers()[i].moe.forward(moe::view(batch.x), batch.plan.view(), moe::view(y_), workspace_, threads_);
    }

    void check(const Workload& workload) {
        Matrix wanted;
        for (const std::vector<Batch>& batches : workload) {
            for (std::size_t i = 0; i < batches.size(); ++i) {
                naive_[i].forward(batches[i].x, batches[i].plan, wanted);
                run_library(i, batches[i]);
                const auto largest = static_cast<double>(wanted.cwiseAbs().maxCoeff());
                const double difference = y_.allFinite() ? static_cast<double>((y_ - wanted).cwiseAbs().maxCoeff())
                                                         : std::numeric_limits<double>::infinity();
                moe::ensure(difference <= naive_tolerance * largest, moe::ErrorCode::range, "MoE block ", i,
                            " differs by ", difference, " from a naive loop, whose largest output is ", largest);
            }
        }
    }

    template <class Run>
    static double seconds(const Workload& workload, const Run& run) {
        const Clock::time_point start = Clock::now();
        for (const std::vector<Batch>& batches : workload) {
            for (std::size_t i = 0; i < batches.size(); ++i) {
                run(i, batches[i]);
            }
        }
        return std::chrono::duration<double>(Clock::now() - start).count();
    }

    static double median(std::vector<double> values) {
        const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
        std::nth_element(values.begin(), middle, values.end());
        return *middle;
    }

    const Model* model_;
    Threads threads_;
    std::vector<NaiveMoE> naive_;
    std::vector<Matrix> inputs_;  // (tokens, d_model), one a block
    moe::Workspace workspace_;
    Matrix y_;
};

}  // namespace

NaiveMoE::NaiveMoE(const Checkpoint& weights, std::size_t layer, const Config& config) {
    for (std::ptrdiff_t e = 0; e < config.n_experts; ++e) {
        const std::string prefix =
            "model.layers." + std::to_string(layer) + ".block_sparse_moe.experts." + std::to_string(e) + ".";
        experts_.push_back({weights.matrix(prefix + "w1.weight", config.d_ff, config.d_model),
                            weights.matrix(prefix + "w3.weight", config.d_ff, config.d_model),
                            weights.matrix(prefix + "w2.weight", config.d_model, config.d_ff)});
    }
}

void NaiveMoE::forward(const Matrix& x, const moe::PlanView<float>& plan, Matrix& y) const {
    y.setZero(x.rows(), x.cols());
    for (std::size_t e = 0; e < experts_.size(); ++e) {
        const std::span<const moe::Index> tokens = plan.tokens_of(e);
        if (tokens.empty()) {
            continue;
        }
        Matrix rows(index(tokens.size()), x.cols());
        for (std::size_t r = 0; r < tokens.size(); ++r) {
            rows.row(index(r)) = x.row(index(tokens[r]));
        }
        Matrix gate(rows.rows(), experts_[e].gate.rows());
        Matrix up(rows.rows(), experts_[e].up.rows());
        gate.noalias() = rows * experts_[e].gate.transpose();
        up.noalias() = rows * experts_[e].up.transpose();
        gate = (gate.array() / (1.0F + (-gate.array()).exp()) * up.array()).matrix();
        rows.noalias() = gate * experts_[e].down.transpose();
        for (std::size_t r = 0; r < tokens.size(); ++r) {
            const float weight = plan.weights[plan.assignments[plan.expert_offsets[e] + r]];
            y.row(index(tokens[r])) += weight * rows.row(index(r));
        }
    }
}

std::vector<MoESpeed> compare_with_naive(const Model& model, const std::string& directory, const Threads& threads) {
    Comparison comparison(model, directory, threads);
    return {comparison.measure(1), comparison.measure(comparison.tokens())};
}

}  // namespace generate
