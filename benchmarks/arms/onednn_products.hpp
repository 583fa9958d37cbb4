#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>

#include <dnnl.hpp>

#include "../threads.hpp"

namespace bench {

/// y (rows, outputs) = x (rows, inputs) * weight (outputs, inputs)^T by oneDNN, for any number of rows over weights in
/// one packed format; x and weights in float32, bfloat16 or 8-bit integers, whose sums are integers of 32 bits.
class InnerProduct {
public:
    using Dims = dnnl::memory::dims;
    using Type = dnnl::memory::data_type;

    /// The format is the one oneDNN chooses for a batch of 64.
    InnerProduct(const dnnl::engine& engine, std::size_t inputs, std::size_t outputs, Type type = Type::f32)
        : engine_(engine), inputs_(dim(inputs)), outputs_(dim(outputs)), type_(type) {
        const dnnl::memory::desc any({outputs_, inputs_}, type_, dnnl::memory::format_tag::any);
        weights_ = description(64, any).weights_desc();
    }

    [[nodiscard]] const dnnl::memory::desc& weights() const noexcept { return weights_; }
    [[nodiscard]] dnnl::memory::desc plain_weights(Type type = Type::f32) const {
        return {{outputs_, inputs_}, type, dnnl::memory::format_tag::ab};
    }

    /// Makes the primitives for `rows` rows: one with all threads inside, one for a single thread.
    void prepare(std::size_t rows, const Threads& threads) {
        if (primitives_.contains(rows)) {
            return;
        }
        const auto make = [&](std::size_t n) {
            const Threads limited(n);  // oneDNN asks OpenMP when it makes a primitive
            const auto pd = description(dim(rows), weights_);
            scratchpad_bytes_ = std::max(scratchpad_bytes_, pd.scratchpad_desc().get_size());
            return One{dnnl::inner_product_forward(pd), pd};
        };
        One single = make(1);
        One all = make(threads.concurrency());
        primitives_.emplace(rows, std::pair(std::move(all), std::move(single)));
    }

    [[nodiscard]] std::size_t scratchpad_bytes() const noexcept { return scratchpad_bytes_; }

    /// `scratchpad` of scratchpad_bytes(), not shared with another thread. `rows` must have been prepared.
    void run(std::size_t rows, bool single, void* x, void* packed, void* y, void* scratchpad,
             dnnl::stream& stream) const {
        const auto& both = primitives_.at(rows);
        const One& one = single ? both.second : both.first;
        one.primitive.execute(stream,
                              {{DNNL_ARG_SRC, {one.description.src_desc(), engine_, x}},
                               {DNNL_ARG_WEIGHTS, {weights_, engine_, packed}},
                               {DNNL_ARG_DST, {one.description.dst_desc(), engine_, y}},
                               {DNNL_ARG_SCRATCHPAD, {one.description.scratchpad_desc(), engine_, scratchpad}}});
    }

private:
    using Description = dnnl::inner_product_forward::primitive_desc;
    struct One {
        dnnl::inner_product_forward primitive;
        Description description;
    };

    static dnnl::memory::dim dim(std::size_t value) { return static_cast<dnnl::memory::dim>(value); }

    [[nodiscard]] Description description(dnnl::memory::dim rows, const dnnl::memory::desc& weights) const {
        const Type sums = type_ == Type::s8 ? Type::s32 : Type::f32;
        const dnnl::memory::desc x({rows, inputs_}, type_, dnnl::memory::format_tag::ab);
        const dnnl::memory::desc y({rows, outputs_}, sums, dnnl::memory::format_tag::ab);
        dnnl::primitive_attr attributes;
        attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
        return {engine_, dnnl::prop_kind::forward_inference, x, weights, y, attributes};
#else
        return {{dnnl::prop_kind::forward_inference, x, weights, y}, attributes, engine_};
#endif
    }

    dnnl::engine engine_;
    dnnl::memory::dim inputs_;
    dnnl::memory::dim outputs_;
    Type type_;
    dnnl::memory::desc weights_;
    std::map<std::size_t, std::pair<One, One>> primitives_;
    std::size_t scratchpad_bytes_ = 64;
};

}  // namespace bench
