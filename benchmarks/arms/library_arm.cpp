#include "library_arm.hpp"

#include <moe/stats.hpp>

#include "../probes/clock.hpp"
#include "../weights.hpp"
#include "format_arms.hpp"

namespace bench {

LibraryArm::LibraryArm(const Shape& shape, Format format, Compute compute, std::size_t layers, const Threads& threads)
    : threads_(threads) {
    visit_format(format, [&]<class F>(F) { layers_.push_back(make_layer_of<F>(shape, compute, &table_, threads_)); });
    while (layers_.size() < layers) {
        layers_.push_back(layers_.front()->copy(threads_));
    }
}

void LibraryArm::prepare(const Batch& batch) { table_ = batch.table->experts(); }

void LibraryArm::run(const Batch& batch, Turn turn, moe::MatrixView<float> y) {
    layers_[turn.layer]->forward(batch.x, batch.table->ids(turn.variant), y, workspace_, threads_, nullptr);
}

void LibraryArm::run_alone(const Batch& batch, Turn turn, moe::MatrixView<float> y) {
    layers_[turn.layer]->forward(batch.x, batch.table->ids(turn.variant), y, workspace_, threads_.only(1), nullptr);
}

std::size_t LibraryArm::workspace_bytes(const Batch& batch, moe::MatrixView<float> y) {
    workspace_ = moe::Workspace();
    run(batch, {}, y);
    return workspace_.capacity();
}

void LibraryArm::route(Batch& batch) {
    batch.plans.resize(batch.table->variants());
    for (std::size_t variant = 0; variant < batch.plans.size(); ++variant) {
        layers_.front()->route(batch.x, batch.table->ids(variant), batch.plans[variant], workspace_, threads_);
    }
}

PhaseSeconds LibraryArm::observe(const Batch& batch, Turn turn, moe::MatrixView<float> y) {
    PhaseSeconds seconds;
    moe::PhaseTimer<float> timer;
    seconds.total = seconds_of([&] {
        layers_[turn.layer]->forward(batch.x, batch.table->ids(turn.variant), y, workspace_, threads_, &timer);
    });
    for (const moe::Phase phase : {moe::Phase::logits, moe::Phase::gating, moe::Phase::plan}) {
        seconds.route += timer.phase(phase).total();
    }
    return seconds;
}

}  // namespace bench
