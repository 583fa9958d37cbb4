#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "../formats.hpp"
#include "library_layer.hpp"

namespace bench {

/// Seconds of one observed call: choosing experts (logits, gating, plan), and all of it.
struct PhaseSeconds {
    double route = 0;
    double total = 0;
};

/// The library: router, plan, experts and combine, everything a model calls once a layer.
class LibraryArm final : public Arm {
public:
    LibraryArm(const Shape& shape, Format format, Compute compute, std::size_t layers, const Threads& threads);

    [[nodiscard]] std::string_view name() const override { return "moe"; }
    [[nodiscard]] std::size_t layers() const override { return layers_.size(); }
    void prepare(const Batch& batch) override;
    void run(const Batch& batch, Turn turn, moe::MatrixView<float> y) override;

    /// The same on one thread, whose result must have the same bits.
    void run_alone(const Batch& batch, Turn turn, moe::MatrixView<float> y);

    /// What a call needs beside its arguments; the workspace is from then on as large as that.
    [[nodiscard]] std::size_t workspace_bytes(const Batch& batch, moe::MatrixView<float> y);

    /// The plans of all variants of `batch.table`.
    void route(Batch& batch);
    [[nodiscard]] PhaseSeconds observe(const Batch& batch, Turn turn, moe::MatrixView<float> y);
    [[nodiscard]] std::span<const std::byte> weights(std::size_t layer) const { return layers_[layer]->weights(); }
    [[nodiscard]] std::string kernel() const { return layers_.front()->kernel(); }

private:
    Threads threads_;
    std::span<const std::int32_t> table_;
    std::vector<std::unique_ptr<LibraryLayer>> layers_;
    moe::Workspace workspace_;
};

}  // namespace bench
