#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model.hpp"
#include "pass.hpp"
#include "schedule.hpp"

namespace trainer {

/// Which loss keeps the loads of the experts even.
enum class Balance : unsigned char {
    by_layer,  ///< the sum of add_load_balance over the layers
    pooled  ///< add_pooled_load_balance, which Hugging Face transformers trains with: imbalances of layers cancel out
};

/// How a model is trained.
struct Settings {
    std::size_t length = 128;     ///< tokens of a sequence
    std::size_t batch = 16;       ///< sequences of a step
    std::size_t micro_batch = 0;  ///< sequences of a pass, of which a step has several; 0: all at once
    Schedule schedule;
    moe::AdamW adam{.beta2 = 0.98, .decay = 0.1};  ///< but for the rate, which is the schedule's
    double clip = 1;                               ///< limit of the norm of all gradients
    Balance balance = Balance::by_layer;
    double aux = 0.01;  ///< its coefficient
    double z = 0;       ///< coefficient of add_z_loss, of each layer
    std::uint64_t seed = 1;
};

/// What a step saw, before its update. Losses without coefficients.
struct Step {
    double loss = 0;  ///< nats a target
    double aux = 0;   ///< mean over micro-batches; at balance 1 for each layer, for pooled layers top_k in all
    double z = 0;     ///< sum over layers
    double norm = 0;  ///< of all gradients, before clipping
    double rate = 0;
    std::vector<moe::RoutingCounts> counts;  ///< of each layer
};

/// Trains a model step by step. A loss of single tokens (all but aux) gives the same bits for any micro_batch that
/// divides the batch by a power of two, and all of it for any number of threads.
template <class T>
class Trainer {
public:
    /// The model outlives it. Throws moe::Error(range) for a micro_batch that does not divide the batch.
    Trainer(Model<T>& model, const Settings& settings);

    /// The gradients of a batch of settings.batch sequences: language loss + aux + z.
    [[nodiscard]] Step compute_gradients(const Batch& batch, const moe::ExecutorRef& threads);

    /// Clips them and updates the model. Throws moe::Error(range), with the model as it was, where they are not finite.
    void update(Step& step, const moe::ExecutorRef& threads);

    [[nodiscard]] Step step(const Batch& batch, const moe::ExecutorRef& threads) {
        Step result = compute_gradients(batch, threads);
        update(result, threads);
        return result;
    }

    /// Steps done, also those before a training was taken up again.
    [[nodiscard]] std::uint64_t steps_done() const noexcept { return steps_done_; }
    void resume_after(std::uint64_t steps) noexcept { steps_done_ = steps; }

private:
    void add_routing_losses(double share, Step& step);

    Model<T>& model_;
    Settings settings_;
    Pass<T> pass_;
    std::uint64_t steps_done_ = 0;
};

}  // namespace trainer
