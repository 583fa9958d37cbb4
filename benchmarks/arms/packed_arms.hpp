#pragma once

#include <optional>
#include <utility>
#include <vector>

#include <moe/instantiate.hpp>

#include "../reference.hpp"
#include "format_arms.hpp"
#include "packed_bank.hpp"

namespace bench {

[[nodiscard]] inline moe::Compute library_compute(Compute compute) noexcept {
    switch (compute) {
        case Compute::exact: return moe::Compute::exact;
        case Compute::int8: return moe::Compute::int8;
        case Compute::bf16x3: return moe::Compute::bf16x3;
        case Compute::bf16: return moe::Compute::bf16;
    }
    return {};
}

template <class F>
class PackedLayer final : public LibraryLayer {
public:
    using Table = const std::span<const std::int32_t>*;

    PackedLayer(const Shape& shape, PackedBank<F> routed, std::optional<PackedBank<F>> shared, Table table,
                const Threads& threads)
        : shape_(shape),
          table_(table),
          router_(shape.n_experts * shape.d_model),
          routed_(std::move(routed)),
          shared_(std::move(shared)),
          layer_(make_layer(threads)) {}

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
        const moe::LayerDescription description = layer_.describe();
        return description.isa + ", " + description.hidden.text();
    }
    [[nodiscard]] std::span<const std::byte> weights() const override {
        const auto experts = routed_.experts();  // over memory that routed_ owns
        return experts.data();
    }
    [[nodiscard]] std::unique_ptr<LibraryLayer> copy(const Threads& threads) const override {
        std::optional<PackedBank<F>> shared;
        if (shared_) {
            shared = shared_->copy(threads);
        }
        return std::make_unique<PackedLayer>(shape_, routed_.copy(threads), std::move(shared), table_, threads);
    }

private:
    using Bank = typename PackedBank<F>::Experts;
    using Layer = moe::MoELayer<moe::Router<float, DrawnChoice>, Bank>;

    [[nodiscard]] Layer make_layer(const Threads& threads) {
        fill_stored<float>(threads, WeightStream(0, 0, Matrix::router, shape_.d_model), 0, router_);
        DrawnChoice gate;
        gate.choice.top_k = static_cast<int>(shape_.top_k);
        gate.choice.normalize = true;
        gate.table = table_;
        const moe::Router choose{moe::view(std::as_const(router_).data(), shape_.n_experts, shape_.d_model), gate};
        moe::SharedExperts<Bank> shared;
        if (shared_) {
            shared = moe::SharedExperts<Bank>(shared_->experts());
        }
        return Layer(choose.packed(threads), routed_.experts(), std::move(shared));
    }

    // The layer only views what stands before it.
    Shape shape_;
    Table table_;
    std::vector<float> router_;
    PackedBank<F> routed_;
    std::optional<PackedBank<F>> shared_;
    Layer layer_;
};

template <class F>
class DenseArm final : public Arm {
public:
    DenseArm(const Shape& shape, Compute compute, std::size_t layers, const Threads& threads) : threads_(threads) {
        banks_.emplace_back(BankSizes{1, shape.d_model, dense_d_ff(shape), 2}, library_compute(compute), threads);
        while (banks_.size() < layers) {
            banks_.push_back(banks_.front().copy(threads));
        }
        for (const PackedBank<F>& bank : banks_) {
            layers_.emplace_back(bank.experts());
        }
    }

    [[nodiscard]] std::string_view name() const override { return "dense"; }
    [[nodiscard]] std::size_t layers() const override { return layers_.size(); }
    void prepare(const Batch&) override {}
    void run(const Batch& batch, Turn turn, moe::MatrixView<float> y) override {
        layers_[turn.layer].forward(batch.x, y, workspace_, threads_);
    }

private:
    Threads threads_;
    std::vector<PackedBank<F>> banks_;
    std::vector<moe::Expert<typename PackedBank<F>::Experts>> layers_;
    moe::Workspace workspace_;
};

template <class F>
std::unique_ptr<LibraryLayer> make_layer_of(const Shape& shape, Compute compute,
                                            const std::span<const std::int32_t>* table, const Threads& threads) {
    const auto bank = [&](std::size_t n_experts, std::size_t d_ff, std::size_t group) {
        return PackedBank<F>({n_experts, shape.d_model, d_ff, group}, library_compute(compute), threads);
    };
    std::optional<PackedBank<F>> shared;
    if (shape.shared_d_ff > 0) {
        shared = bank(1, shape.shared_d_ff, 1);
    }
    return std::make_unique<PackedLayer<F>>(shape, bank(shape.n_experts, shape.d_ff, 0), std::move(shared), table,
                                            threads);
}

template <class F>
std::unique_ptr<Arm> make_dense_of(const Shape& shape, Compute compute, std::size_t layers, const Threads& threads) {
    return std::make_unique<DenseArm<F>>(shape, compute, layers, threads);
}

}  // namespace bench
