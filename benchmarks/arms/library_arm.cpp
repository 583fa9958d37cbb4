#include "library_arm.hpp"

#include <utility>

#include <moe/moe.hpp>

#include "../probes/clock.hpp"
#include "source_weights.hpp"

namespace bench {

namespace {

template <class Layer>
class LayerOf final : public LibraryLayer {
public:
    LayerOf(std::vector<float> router, Layer layer) : router_(std::move(router)), layer_(std::move(layer)) {}

    void forward(moe::MatrixView<const float> x, std::span<const std::int32_t> ids, moe::MatrixView<float> y,
                 moe::Workspace& workspace, const Threads& threads, moe::Observer<float>* observer) const override {
        moe::ForwardOptions<float> options;
        options.token_ids = ids;
        options.observer = observer;
        layer_.forward(x, y, workspace, threads, options);
    }
    void route(moe::MatrixView<const float> x, std::span<const std::int32_t> ids, moe::RoutingPlan<float>& plan,
               moe::Workspace& workspace, const Threads& threads) const override {
        moe::ForwardOptions<float> options;
        options.token_ids = ids;
        layer_.route(x, plan, workspace, threads, options);
    }
    [[nodiscard]] std::string kernel() const override {
        if constexpr (requires { std::string(layer_.describe()); }) {
            return std::string(layer_.describe());
        } else {
            return moe::isa_name();
        }
    }

private:
    std::vector<float> router_;  // the layer only views it
    Layer layer_;
};

/// A layer of the banks that `make_bank(n_experts, d_ff, group)` gives.
template <class MakeBank>
std::unique_ptr<LibraryLayer> layer_of(const Shape& shape, const std::span<const std::int32_t>* table,
                                       const Threads& threads, MakeBank&& make_bank) {
    std::vector<float> router(shape.n_experts * shape.d_model);
    fill_stored<float>(threads, WeightStream(0, 0, Matrix::router, shape.d_model), router);
    DrawnChoice gate;
    gate.choice.top_k = static_cast<int>(shape.top_k);
    gate.choice.normalize = true;
    gate.table = table;
    moe::Router choose{moe::view(std::as_const(router).data(), shape.n_experts, shape.d_model), gate};
    auto experts = make_bank(shape.n_experts, shape.d_ff, std::size_t{0});
    using Bank = decltype(experts);
    moe::SharedExperts<Bank> shared;
    if (shape.shared_d_ff > 0) {
        shared = moe::SharedExperts<Bank>(make_bank(1, shape.shared_d_ff, std::size_t{1}));
    }
    using Layer = moe::MoELayer<decltype(choose), Bank>;
    return std::make_unique<LayerOf<Layer>>(std::move(router),
                                            Layer(std::move(choose), std::move(experts), std::move(shared)));
}

class PhaseTimer final : public moe::Observer<float> {
public:
    explicit PhaseTimer(PhaseSeconds& seconds) : seconds_(&seconds) {}
    void on_phase_begin(moe::Phase) override { begin_ = std::chrono::steady_clock::now(); }
    void on_phase_end(moe::Phase phase) override {
        if (phase <= moe::Phase::plan) {
            seconds_->route += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
        }
    }

private:
    PhaseSeconds* seconds_;
    std::chrono::steady_clock::time_point begin_;
};

}  // namespace

std::unique_ptr<LibraryLayer> make_library_layer(const Shape& shape, Format format, Compute, std::size_t layer,
                                                 const std::span<const std::int32_t>* table, const Threads& threads) {
    const auto of_element = [&]<class W>(W) {
        return layer_of(shape, table, threads, [&](std::size_t n_experts, std::size_t d_ff, std::size_t group) {
            return packed<W>(n_experts, shape.d_model, d_ff, layer, group, threads);
        });
    };
    switch (format) {
        case Format::f32: return of_element(float{});
        case Format::bf16: return of_element(moe::bfloat16{});
        case Format::f16: return of_element(moe::float16{});
    }
    return nullptr;
}

LibraryArm::LibraryArm(const Shape& shape, Format format, Compute compute, std::size_t layers, const Threads& threads)
    : threads_(threads) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
        layers_.push_back(make_library_layer(shape, format, compute, layer, &table_, threads_));
    }
}

void LibraryArm::prepare(const Batch& batch) { table_ = batch.table->experts(); }

void LibraryArm::run(const Batch& batch, Turn turn, moe::MatrixView<float> y) {
    layers_[turn.layer]->forward(batch.x, batch.table->ids(turn.variant), y, workspace_, threads_, nullptr);
}

void LibraryArm::route(Batch& batch) {
    batch.plans.resize(batch.table->variants());
    for (std::size_t variant = 0; variant < batch.plans.size(); ++variant) {
        layers_.front()->route(batch.x, batch.table->ids(variant), batch.plans[variant], workspace_, threads_);
    }
}

PhaseSeconds LibraryArm::observe(const Batch& batch, Turn turn, moe::MatrixView<float> y) {
    PhaseSeconds seconds;
    PhaseTimer timer(seconds);
    seconds.total = seconds_of([&] {
        layers_[turn.layer]->forward(batch.x, batch.table->ids(turn.variant), y, workspace_, threads_, &timer);
    });
    return seconds;
}

}  // namespace bench
