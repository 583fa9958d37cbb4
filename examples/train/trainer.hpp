#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "model.hpp"
#include "pass.hpp"
#include "schedule.hpp"

namespace trainer {

/// Which loss keeps the loads of the experts even.
enum class Balance : unsigned char {
    by_layer,  ///< the sum over the layers of add_load_balance of the whole batch, whatever the micro-batches
    pooled  ///< add_pooled_load_balance, which Hugging Face transformers trains with: imbalances of layers cancel out
};

/// How a model is trained.
struct Settings {
    std::size_t length = 128;     ///< tokens of a sequence
    std::size_t batch = 16;       ///< sequences of a step
    std::size_t micro_batch = 0;  ///< sequences of a pass, of which a step has several; 0: all at once. With a loss by
                                  ///< layer each runs forward twice: all are counted before the first learns
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
    double aux = 0;   ///< at balance 1 for each layer; of pooled layers the mean over micro-batches, at balance top_k
    double z = 0;     ///< sum over layers
    double norm = 0;  ///< of all gradients, before clipping
    double rate = 0;
    std::vector<moe::RoutingCounts> counts;  ///< of each layer
};

/// What the routing of a micro-batch did.
template <class T>
struct RoutedBatch {
    const Config& config;
    const Settings& settings;
    const std::vector<moe::Tape<T>*>& tapes;        ///< of each layer with a plan
    const std::vector<moe::RoutingCounts>& counts;  ///< likewise, of the whole batch if Routing::needs_counts
    double share;                                   ///< of the whole batch
    moe::Workspace& workspace;
};

/// How the blocks of a model route while it is trained, and what keeps the loads even: what a Trainer asks. This one is
/// the model's own, with the losses that the settings name.
template <class T>
class Routing {
public:
    Routing() = default;
    Routing(const Routing&) = delete;
    Routing& operator=(const Routing&) = delete;
    virtual ~Routing() = default;

    [[nodiscard]] virtual Blocks<T> make_blocks(const Model<T>& model) { return blocks_of(model); }

    /// What an update moves. Learns::blocks: the model is frozen, the blocks add to parameters of their own.
    [[nodiscard]] virtual moe::Parameters<T>& parameters(Model<T>& model) { return model.parameters(); }
    [[nodiscard]] virtual Learns learns() const { return Learns::everything; }

    /// Before the first pass of a step, from 0.
    virtual void begin_step(std::uint64_t /*step*/) {}

    /// Whether add_losses reads `counts`, which take a forward pass of each micro-batch more.
    [[nodiscard]] virtual bool needs_counts(const Settings& settings) const {
        return settings.balance == Balance::by_layer && settings.aux != 0;
    }

    /// Adds losses to the tapes of a micro-batch after its forward pass, and their values to `step`.
    virtual void add_losses(const RoutedBatch<T>& batch, Step& step);

    /// After the update of a step.
    virtual void end_step(const Step& /*step*/) {}
};

/// Trains a model step by step. A loss of single tokens (all but aux) gives the same bits for any micro_batch that
/// divides the batch by a power of two, a loss by layer the same but for rounding, and all of it has the same bits for
/// any number of threads.
template <class T>
class Trainer {
public:
    /// Model and routing outlive it. Throws moe::Error(range) for a micro_batch that does not divide the batch.
    Trainer(Model<T>& model, const Settings& settings, Routing<T>& routing);
    Trainer(Model<T>& model, const Settings& settings) : Trainer(model, settings, std::make_unique<Routing<T>>()) {}

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
    Trainer(Model<T>& model, const Settings& settings, std::unique_ptr<Routing<T>> own);

    [[nodiscard]] Batch micro_batch(const Batch& batch, std::size_t index) const;
    void add_counts(Step& step);

    std::unique_ptr<Routing<T>> own_;
    Routing<T>& routing_;
    const Config& config_;
    moe::Parameters<T>& parameters_;
    Settings settings_;
    Pass<T> pass_;
    std::uint64_t steps_done_ = 0;
};

}  // namespace trainer
