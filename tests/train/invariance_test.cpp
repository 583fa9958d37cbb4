#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "moe/parallel/openmp.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"
#include "support/gate_cases.hpp"
#include "train/gradients.hpp"

/// All gradients have the same bits on any executor with any number of threads, whatever the tape keeps, and for any
/// cut of a batch into micro-batches in order: random layers under token gates of every kind.
namespace moe_test::train_invariance_test {

namespace {

template <class T>
struct Batch {
    std::size_t d;
    std::vector<T> x;
    std::vector<T> dy;
    std::vector<std::int32_t> ids;
    std::vector<std::uint8_t> valid;

    Batch(Draw& draw, std::size_t n, std::size_t width)
        : d(width),
          x(random_elements<T>(draw, n * d, 1)),
          dy(random_elements<T>(draw, n * d, 1)),
          ids(GateCases::token_ids(draw, n)),
          valid(n) {
        const bool padded = draw.coin();
        for (std::uint8_t& flag : valid) {
            flag = padded && draw.size(0, 5) == 0 ? 0 : 1;
        }
    }
    [[nodiscard]] std::size_t n_tokens() const { return ids.size(); }
};

/// The part [first, first + count) of a batch: its rows of dx are written, its parameters' gradients added to.
template <class T, class Layer, class E>
void run_part(const Layer& layer, const Batch<T>& batch, std::size_t first, std::size_t count, Gradients<T>& to,
              moe::Tape<T>& tape, moe::Workspace& workspace, const E& executor) {
    const std::size_t d = batch.d;
    std::vector<T> y(count * d);
    moe::ForwardOptions<T> options;
    options.token_ids = std::span(batch.ids).subspan(first, count);
    options.valid = std::span(batch.valid).subspan(first, count);
    options.first_position = first;
    moe::forward(layer, moe::view(batch.x.data() + first * d, count, d), moe::view(y.data(), count, d), tape, workspace,
                 executor, options);
    if (tape.logits().cols() == 0) {  // a gate that reads none: there is nothing for a router to learn
        to.to.router = {};
        to.to.router_bias = {};
    }
    moe::backward(layer, tape, moe::view(batch.dy.data() + first * d, count, d),
                  moe::view(to.dx.data() + first * d, count, d), to.to, workspace, executor);
}

/// On an executor drawn by lot.
template <class T, class Layer>
void run_somehow(Draw& draw, const Layer& layer, const Batch<T>& batch, std::size_t first, std::size_t count,
                 Gradients<T>& to, moe::Workspace& workspace) {
    moe::Tape<T> tape(draw.coin() ? moe::TapeKeeps::products : moe::TapeKeeps::routing);
    const std::size_t workers = draw.size(1, twice_the_threads());
    const auto run = [&](const auto& executor) { run_part(layer, batch, first, count, to, tape, workspace, executor); };
    switch (draw.size(0, 4)) {
        case 0: return run(moe::SerialExecutor{});
        case 1: return run(ThreadExecutor(workers));
        case 2: return run(ThreadExecutor(workers, draw.size(1, workers)));
        case 3: return run(ReversedExecutor(workers));
        default:
#if defined(_OPENMP)
            return run(moe::OpenMpExecutor(static_cast<int>(workers)));
#else
            return run(ReversedExecutor(workers));
#endif
    }
}

/// The whole batch in a few parts, in order.
template <class T, class Layer>
std::vector<T> gradients_somehow(Draw& draw, const Layer& layer, const Batch<T>& batch, moe::Workspace& workspace) {
    Gradients<T> g(layer, batch.n_tokens());
    const std::size_t n = batch.n_tokens();
    const bool whole = draw.coin();
    for (std::size_t first = 0; first < n;) {
        const std::size_t count = whole ? n : draw.size(1, n - first);
        run_somehow(draw, layer, batch, first, count, g, workspace);
        first += count;
    }
    return g.all();
}

/// Compares a layer under each kind of gate there is; returns how many.
template <class T>
std::size_t check_case(std::uint64_t seed) {
    Draw draw(seed);
    const LayerShape shape = random_layer_shape(draw, draw.size(0, 19) == 0 ? 150 : 50, 9);
    const LayerCase<T> layer_case(shape, seed + 1);
    const GateCases gates(draw, shape.n_choices());
    const Batch<T> batch(draw, draw.size(1, draw.size(0, 9) == 0 ? 150 : 30), shape.d_model);
    moe::Workspace workspace;
    std::size_t n_compared = 0;
    for (std::size_t g = 0; g < gates.gates().size(); ++g) {
        const moe::AnyGate& gate = gates.gates()[g];
        if (!moe::gate_has_backward(gate)) {
            continue;
        }
        const auto layer = layer_case.layer(gate);
        Gradients<T> expected(layer, batch.n_tokens());
        moe::Tape<T> tape;
        run_part(layer, batch, 0, batch.n_tokens(), expected, tape, workspace, moe::SerialExecutor{});
        INFO("seed " << seed << ", gate " << g);
        REQUIRE(same_bits(gradients_somehow(draw, layer, batch, workspace), expected.all()));
        REQUIRE(same_bits(gradients_somehow(draw, layer_case.packed_layer(gate), batch, workspace), expected.all()));
        ++n_compared;
    }
    return n_compared;
}

}  // namespace

TEST_CASE("1,000 random layers in float: executors, threads, tapes, micro-batches, packed or not", "[gradients]") {
    std::size_t n_compared = 0;
    for (std::uint64_t seed = 0; n_compared < 1000; ++seed) {
        n_compared += check_case<float>(1000 * seed);
    }
}

TEST_CASE("1,000 random layers in double: executors, threads, tapes, micro-batches, packed or not", "[gradients]") {
    std::size_t n_compared = 0;
    for (std::uint64_t seed = 0; n_compared < 1000; ++seed) {
        n_compared += check_case<double>(1000 * seed + 500);
    }
}

}  // namespace moe_test::train_invariance_test
