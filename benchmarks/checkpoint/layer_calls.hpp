#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <moe/instantiate.hpp>

#include "../threads.hpp"

namespace moe::inline MOE_ABI {
class Checkpoint;
}

namespace bench {

/// Rows of the table of a hash gate, from which ids of tokens are taken; 1 where the layer has none.
[[nodiscard]] std::size_t vocabulary(const moe::Checkpoint& checkpoint, std::size_t layer);

/// Calls of a layer of any architecture on windows of one stream of random tokens: each goes to other experts.
class LayerCalls {
public:
    struct Tokens {
        std::size_t count;       ///< in a call
        std::size_t vocabulary;  ///< their ids are below
    };

    /// The layer must outlive this.
    LayerCalls(const moe::AnyLayer<float>& layer, const moe::MoEConfig& config, Tokens tokens, const Threads& threads);

    /// The next call.
    void operator()() { run(turn_++); }

    /// That number of a call, and the output of the last one.
    void run(std::size_t turn);
    [[nodiscard]] const std::vector<float>& output() const noexcept { return y_; }

    /// Different experts that a call goes to, a mean over several.
    [[nodiscard]] double distinct_experts();

private:
    static constexpr std::size_t windows = 64;

    [[nodiscard]] std::size_t first(std::size_t turn) const noexcept { return turn * 17 % windows; }
    [[nodiscard]] moe::ForwardOptions<float> options(std::size_t turn) const;
    [[nodiscard]] moe::MatrixView<const float> input(std::size_t turn) const;

    const moe::AnyLayer<float>& layer_;
    Threads threads_;
    std::size_t tokens_;
    std::size_t width_;
    std::size_t router_width_;
    std::vector<float> x_;
    std::vector<float> router_x_;
    std::vector<float> y_;
    std::vector<std::int32_t> ids_;
    moe::Workspace workspace_;
    std::size_t turn_ = 0;
};

}  // namespace bench
