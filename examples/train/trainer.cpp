#include "trainer.hpp"

#include <algorithm>

namespace trainer {

template <class T>
Trainer<T>::Trainer(Model<T>& model, const Settings& settings)
    : model_(model), settings_(settings), pass_(model, settings.length) {
    settings_.micro_batch = settings.micro_batch == 0 ? settings.batch : settings.micro_batch;
    moe::ensure(settings_.batch % settings_.micro_batch == 0, moe::ErrorCode::range, "a batch of ", settings_.batch,
                " sequences cannot be cut into micro-batches of ", settings_.micro_batch);
}

/// Those of a micro-batch, which is `share` of the batch.
template <class T>
void Trainer<T>::add_routing_losses(double share, Step& step) {
    const std::vector<moe::Tape<T>*>& tapes = pass_.tapes();
    for (std::size_t i = 0; i < tapes.size(); ++i) {
        step.counts[i].add(*tapes[i]);
        if (settings_.z != 0) {
            step.z += share * moe::add_z_loss(*tapes[i], {.coefficient = settings_.z, .scale = share});
        }
        if (settings_.balance == Balance::by_layer) {
            const moe::LoadBalance options{
                .coefficient = settings_.aux, .scale = share, .top_k = static_cast<int>(model_.config().top_k)};
            step.aux += share * moe::add_load_balance(*tapes[i], options, pass_.workspace());
        }
    }
    if (settings_.balance == Balance::pooled) {
        const moe::PooledLoadBalance options{.coefficient = settings_.aux, .scale = share};
        step.aux += share * moe::add_pooled_load_balance(tapes, options, pass_.workspace());
    }
}

template <class T>
Step Trainer<T>::compute_gradients(const Batch& batch, const moe::ExecutorRef& threads) {
    moe::ensure(batch.n_sequences == settings_.batch, moe::ErrorCode::shape, "a batch has ", batch.n_sequences,
                " sequences, the training ", settings_.batch);
    Step step;
    step.rate = settings_.schedule.at(steps_done_);
    step.counts.resize(model_.layers().size());
    for (moe::RoutingCounts& counts : step.counts) {
        counts.reset(unsigned_size(model_.config().n_experts));
    }
    moe::zero_gradients(model_.parameters().gradients(), threads);
    const auto without = std::count(batch.targets.begin(), batch.targets.end(), no_target);
    const double n_targets = static_cast<double>(batch.targets.size() - static_cast<std::size_t>(without));
    moe::ensure(n_targets > 0, moe::ErrorCode::range, "a batch of ", batch.tokens.size(), " tokens has no targets");
    const std::size_t n_tokens = settings_.micro_batch * settings_.length;
    const double share = static_cast<double>(settings_.micro_batch) / static_cast<double>(settings_.batch);
    for (std::size_t first = 0; first < settings_.batch * settings_.length; first += n_tokens) {
        pass_.forward(
            {batch.tokens.subspan(first, n_tokens), batch.targets.subspan(first, n_tokens), settings_.micro_batch},
            threads);
        step.loss = pass_.cross_entropy(step.loss, 1 / n_targets, threads);
        add_routing_losses(share, step);
        pass_.backward(threads);
    }
    step.loss /= n_targets;
    return step;
}

template <class T>
void Trainer<T>::update(Step& step, const moe::ExecutorRef& threads) {
    const moe::ClippedNorm clipped = moe::clip_by_global_norm(model_.parameters().gradients(), settings_.clip, threads);
    step.norm = clipped.norm;
    moe::ensure(clipped.finite(), moe::ErrorCode::range, "step ", steps_done_ + 1, ": the norm of the gradients is ",
                clipped.norm, "; a lower rate may help");
    moe::AdamW adam = settings_.adam;
    adam.rate = step.rate;
    model_.parameters().update(adam, steps_done_ + 1, threads);
    ++steps_done_;
}

template class Trainer<float>;
template class Trainer<double>;

}  // namespace trainer
