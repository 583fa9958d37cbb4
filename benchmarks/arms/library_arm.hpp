#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include <moe/core/workspace.hpp>
#include <moe/layer/observer.hpp>

#include "../formats.hpp"
#include "../threads.hpp"
#include "arm.hpp"

namespace bench {

/// Seconds of one observed call: choosing experts (logits, gating, plan), and all of it.
struct PhaseSeconds {
    double route = 0;
    double total = 0;
};

/// One layer of the library, whatever its type.
class LibraryLayer {
public:
    LibraryLayer() = default;
    LibraryLayer(const LibraryLayer&) = delete;
    LibraryLayer& operator=(const LibraryLayer&) = delete;
    virtual ~LibraryLayer() = default;

    virtual void forward(moe::MatrixView<const float> x, std::span<const std::int32_t> ids, moe::MatrixView<float> y,
                         moe::Workspace& workspace, const Threads& threads, moe::Observer<float>* observer) const = 0;
    virtual void route(moe::MatrixView<const float> x, std::span<const std::int32_t> ids, moe::RoutingPlan<float>& plan,
                       moe::Workspace& workspace, const Threads& threads) const = 0;
    [[nodiscard]] virtual std::string kernel() const = 0;
};

/// Layer number `layer` of `shape` in a format: random weights, packed. `table` must outlive it. The one place that
/// knows what a format is in the library: a new one is a line in its switch.
[[nodiscard]] std::unique_ptr<LibraryLayer> make_library_layer(const Shape& shape, Format format, Compute compute,
                                                               std::size_t layer,
                                                               const std::span<const std::int32_t>* table,
                                                               const Threads& threads);

/// The library: router, plan, experts and combine, everything a model calls once a layer.
class LibraryArm final : public Arm {
public:
    LibraryArm(const Shape& shape, Format format, Compute compute, std::size_t layers, const Threads& threads);

    [[nodiscard]] std::string_view name() const override { return "moe"; }
    [[nodiscard]] std::size_t layers() const override { return layers_.size(); }
    void prepare(const Batch& batch) override;
    void run(const Batch& batch, Turn turn, moe::MatrixView<float> y) override;

    /// The plans of all variants of `batch.table`.
    void route(Batch& batch);
    [[nodiscard]] PhaseSeconds observe(const Batch& batch, Turn turn, moe::MatrixView<float> y);
    [[nodiscard]] std::string kernel() const { return layers_.front()->kernel(); }

private:
    Threads threads_;
    std::span<const std::int32_t> table_;
    std::vector<std::unique_ptr<LibraryLayer>> layers_;
    moe::Workspace workspace_;
};

}  // namespace bench
