#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include <moe/core/workspace.hpp>
#include <moe/layer/parts/observer.hpp>

#include "../threads.hpp"
#include "arm.hpp"

namespace bench {

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
    /// The instruction set, and what the routed experts run on.
    [[nodiscard]] virtual std::string kernel() const = 0;
    /// The packed routed experts.
    [[nodiscard]] virtual std::span<const std::byte> weights() const = 0;
    /// An equal layer in memory of its own.
    [[nodiscard]] virtual std::unique_ptr<LibraryLayer> copy(const Threads& threads) const = 0;
};

}  // namespace bench
