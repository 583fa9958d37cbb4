#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <utility>

#include <dnnl.hpp>

#include "../threads.hpp"

namespace bench::backward {

/// The three products of a matrix (outputs, inputs) that is trained, by oneDNN over row-major weights: y = x W^T,
/// dx = dy W and dW = dy^T x, for any number of rows.
class TrainedProduct {
public:
    enum class Kind : unsigned char { forward, data, weights };

    TrainedProduct(const dnnl::engine& engine, std::size_t inputs, std::size_t outputs)
        : engine_(engine), inputs_(dim(inputs)), outputs_(dim(outputs)) {}

    /// Makes the primitives for `rows` rows: those with all threads inside, and those for a single thread.
    void prepare(std::size_t rows, const Threads& threads) {
        if (primitives_.contains(rows)) {
            return;
        }
        const auto make = [&](std::size_t n) {
            const Threads limited(n);  // oneDNN asks OpenMP when it makes a primitive
            return three(dim(rows));
        };
        Three single = make(1);
        Three all = make(threads.concurrency());
        primitives_.emplace(rows, std::pair(std::move(all), std::move(single)));
    }

    [[nodiscard]] std::size_t scratchpad_bytes() const noexcept { return scratchpad_bytes_; }

    /// `x` (rows, inputs), `w` (outputs, inputs), `y` (rows, outputs), of which the kind writes one. `scratchpad` of
    /// scratchpad_bytes(), not shared with another thread. `rows` must have been prepared.
    void run(Kind kind, std::size_t rows, bool single, float* x, float* w, float* y, void* scratchpad,
             dnnl::stream& stream) const {
        const auto& both = primitives_.at(rows);
        const One& one = (single ? both.second : both.first)[static_cast<std::size_t>(kind)];
        const bool forward = kind == Kind::forward;
        const int argument_x = kind == Kind::data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC;
        const int argument_w = kind == Kind::weights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS;
        const int argument_y = forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST;
        one.primitive.execute(stream, {{argument_x, {plain(dim(rows), inputs_), engine_, x}},
                                       {argument_w, {plain(outputs_, inputs_), engine_, w}},
                                       {argument_y, {plain(dim(rows), outputs_), engine_, y}},
                                       {DNNL_ARG_SCRATCHPAD, {one.scratchpad, engine_, scratchpad}}});
    }

private:
    using Description = dnnl::memory::desc;
    struct One {
        dnnl::primitive primitive;
        Description scratchpad;
    };
    using Three = std::array<One, 3>;

    static dnnl::memory::dim dim(std::size_t value) { return static_cast<dnnl::memory::dim>(value); }
    static Description plain(dnnl::memory::dim rows, dnnl::memory::dim cols) {
        return {{rows, cols}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::ab};
    }

    [[nodiscard]] Three three(dnnl::memory::dim rows) {
        const Description x = plain(rows, inputs_);
        const Description w = plain(outputs_, inputs_);
        const Description y = plain(rows, outputs_);
        dnnl::primitive_attr attributes;
        attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
        const auto training = dnnl::prop_kind::forward_training;
#if DNNL_VERSION_MAJOR >= 3
        const dnnl::inner_product_forward::primitive_desc forward(engine_, training, x, w, y, attributes);
        const dnnl::inner_product_backward_data::primitive_desc data(engine_, x, w, y, forward, attributes);
        const dnnl::inner_product_backward_weights::primitive_desc weights(engine_, x, w, y, forward, attributes);
#else
        const dnnl::inner_product_forward::primitive_desc forward({training, x, w, y}, attributes, engine_);
        const dnnl::inner_product_backward_data::primitive_desc data({x, w, y}, attributes, engine_, forward);
        const dnnl::inner_product_backward_weights::primitive_desc weights({x, w, y}, attributes, engine_, forward);
#endif
        return {one<dnnl::inner_product_forward>(forward), one<dnnl::inner_product_backward_data>(data),
                one<dnnl::inner_product_backward_weights>(weights)};
    }
    template <class Primitive, class Made>
    [[nodiscard]] One one(const Made& made) {
        scratchpad_bytes_ = std::max(scratchpad_bytes_, made.scratchpad_desc().get_size());
        return {Primitive(made), made.scratchpad_desc()};
    }

    dnnl::engine engine_;
    dnnl::memory::dim inputs_;
    dnnl::memory::dim outputs_;
    std::map<std::size_t, std::pair<Three, Three>> primitives_;
    std::size_t scratchpad_bytes_ = 64;
};

}  // namespace bench::backward
