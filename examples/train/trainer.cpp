#include "trainer.hpp"

#include <algorithm>
#include <utility>

namespace trainer {

template <class T>
void Routing<T>::add_losses(const RoutedBatch<T>& batch, Step& step) {
    const Settings& settings = batch.settings;
    for (std::size_t i = 0; i < batch.tapes.size(); ++i) {
        if (settings.z != 0) {
            step.z += batch.share * moe::add_z_loss(*batch.tapes[i], {.coefficient = settings.z, .scale = batch.share});
        }
        if (settings.balance == Balance::by_layer) {
            const moe::LoadBalance options{.coefficient = settings.aux,
                                           .top_k = static_cast<int>(batch.config.top_k),
                                           .counts = batch.counts[i].counts,
                                           .n_tokens = batch.counts[i].n_tokens};
            step.aux += moe::add_load_balance(*batch.tapes[i], options, batch.workspace);
        }
    }
    if (settings.balance == Balance::pooled) {
        const moe::PooledLoadBalance options{.coefficient = settings.aux, .scale = batch.share};
        step.aux += batch.share * moe::add_pooled_load_balance(batch.tapes, options, batch.workspace);
    }
}

template <class T>
Trainer<T>::Trainer(Model<T>& model, const Settings& settings, Routing<T>& routing)
    : routing_(routing),
      config_(model.config()),
      parameters_(routing.parameters(model)),
      settings_(settings),
      pass_(model, settings.length, routing.make_blocks(model), routing.learns()) {
    settings_.micro_batch = settings.micro_batch == 0 ? settings.batch : settings.micro_batch;
    moe::ensure(settings_.batch % settings_.micro_batch == 0, moe::ErrorCode::range, "a batch of ", settings_.batch,
                " sequences cannot be cut into micro-batches of ", settings_.micro_batch);
}

template <class T>
Trainer<T>::Trainer(Model<T>& model, const Settings& settings, std::unique_ptr<Routing<T>> own)
    : Trainer(model, settings, *own) {
    own_ = std::move(own);
}

template <class T>
Batch Trainer<T>::micro_batch(const Batch& batch, std::size_t index) const {
    const std::size_t n_tokens = settings_.micro_batch * settings_.length;
    const std::size_t first = index * n_tokens;
    return {batch.tokens.subspan(first, n_tokens), batch.targets.subspan(first, n_tokens), settings_.micro_batch,
            batch.first_position + first};
}

/// Adds what the last forward pass chose to the counts of the step.
template <class T>
void Trainer<T>::add_counts(Step& step) {
    const std::vector<moe::Tape<T>*>& tapes = pass_.tapes();
    for (std::size_t i = 0; i < tapes.size(); ++i) {
        step.counts[i].add(*tapes[i]);
    }
}

template <class T>
Step Trainer<T>::compute_gradients(const Batch& batch, const moe::ExecutorRef& threads) {
    moe::ensure(batch.n_sequences == settings_.batch, moe::ErrorCode::shape, "a batch has ", batch.n_sequences,
                " sequences, the training ", settings_.batch);
    const auto without = std::count(batch.targets.begin(), batch.targets.end(), no_target);
    const double n_targets = static_cast<double>(batch.targets.size() - static_cast<std::size_t>(without));
    moe::ensure(n_targets > 0, moe::ErrorCode::range, "a batch of ", batch.tokens.size(), " tokens has no targets");
    const std::size_t n_micro_batches = settings_.batch / settings_.micro_batch;
    const double share = 1 / static_cast<double>(n_micro_batches);
    const bool counted_first = n_micro_batches > 1 && routing_.needs_counts(settings_);
    Step step;
    step.rate = settings_.schedule.at(steps_done_);
    step.counts.resize(pass_.tapes().size());
    for (moe::RoutingCounts& counts : step.counts) {
        counts.reset(unsigned_size(config_.n_experts));
    }
    routing_.begin_step(steps_done_);
    moe::zero_gradients(parameters_.gradients(), threads);
    for (std::size_t i = 0; i < n_micro_batches && counted_first; ++i) {
        pass_.forward(micro_batch(batch, i), threads);
        add_counts(step);
    }
    for (std::size_t i = 0; i < n_micro_batches; ++i) {
        pass_.forward(micro_batch(batch, i), threads);
        if (!counted_first) {
            add_counts(step);
        }
        step.loss = pass_.cross_entropy(step.loss, 1 / n_targets, threads);
        routing_.add_losses({config_, settings_, pass_.tapes(), step.counts, share, pass_.workspace()}, step);
        pass_.backward(threads);
    }
    step.loss /= n_targets;
    return step;
}

template <class T>
void Trainer<T>::update(Step& step, const moe::ExecutorRef& threads) {
    const moe::ClippedNorm clipped = moe::clip_by_global_norm(parameters_.gradients(), settings_.clip, threads);
    step.norm = clipped.norm;
    moe::ensure(clipped.finite(), moe::ErrorCode::range, "step ", steps_done_ + 1, ": the norm of the gradients is ",
                clipped.norm, "; a lower rate may help");
    moe::AdamW adam = settings_.adam;
    adam.rate = step.rate;
    parameters_.update(adam, steps_done_ + 1, threads);
    ++steps_done_;
    routing_.end_step(step);
}

template class Routing<float>;
template class Routing<double>;
template class Trainer<float>;
template class Trainer<double>;

}  // namespace trainer
