#include "onednn_arm.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include <moe/core/workspace.hpp>

#include "../memory.hpp"
#include "../probes/clock.hpp"
#include "expert_list.hpp"
#include "onednn_products.hpp"

namespace bench {

namespace {

/// The two products of experts of one width.
struct Products {
    InnerProduct hidden;  ///< gate and up together
    InnerProduct output;

    Products(const dnnl::engine& engine, std::size_t d_model, std::size_t d_ff)
        : hidden(engine, d_model, 2 * d_ff), output(engine, d_ff, d_model) {}

    [[nodiscard]] std::size_t packed_bytes() const {
        return moe::round_up(hidden.weights().get_size(), 64) + moe::round_up(output.weights().get_size(), 64);
    }
};

/// What one thread needs while it computes an expert.
struct Scratch {
    std::vector<float> x;
    std::vector<float> hidden;
    moe::AlignedBuffer memory;
};

class OneDnnArm final : public Arm {
public:
    OneDnnArm(const Shape& shape, Format format, std::size_t layers, const Threads& threads)
        : shape_(shape), threads_(threads), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
        products_.emplace_back(engine_, shape.d_model, shape.d_ff);
        if (shape.shared_d_ff > 0) {
            products_.emplace_back(engine_, shape.d_model, shape.shared_d_ff);
        }
        scratch_.resize(threads.concurrency());
        std::vector<float> plain(3 * shape.d_model * std::max(shape.d_ff, shape.shared_d_ff));
        for (std::size_t layer = 0; layer < layers; ++layer) {
            layers_.emplace_back(shape.n_experts * products_[0].packed_bytes() +
                                 (products_.size() > 1 ? products_[1].packed_bytes() : 0));
            for (std::size_t e = 0; e < expert_count(shape); ++e) {
                fill_expert(threads, shape, format, layer, e, plain.data());
                pack(plain.data(), layer, e);
            }
        }
    }

    [[nodiscard]] std::string_view name() const override { return "onednn"; }
    [[nodiscard]] std::size_t layers() const override { return layers_.size(); }

    void prepare(const Batch& batch) override {
        plans_.clear();
        std::size_t most = 0;
        for (const auto& plan : batch.plans) {
            plans_.push_back(expert_rows(plan.view(), shape_));
            most = std::max(most, plans_.back().back().first + plans_.back().back().tokens.size());
            for (const ExpertRows& rows : plans_.back()) {
                products_of(rows.expert).hidden.prepare(rows.tokens.size(), threads_);
                products_of(rows.expert).output.prepare(rows.tokens.size(), threads_);
            }
        }
        outputs_.resize(most * shape_.d_model);
        for (Scratch& scratch : scratch_) {
            std::size_t bytes = 0;
            for (const Products& products : products_) {
                bytes = std::max({bytes, products.hidden.scratchpad_bytes(), products.output.scratchpad_bytes()});
            }
            scratch.memory = moe::AlignedBuffer(bytes);
        }
        choose_threads(batch);
    }

    void run(const Batch& batch, Turn turn, moe::MatrixView<float> y) override {
        const std::vector<ExpertRows>& plan = plans_[turn.variant];
        if (spread_) {
            moe::TaskQueue queue;
            auto work = [&](std::size_t ith, std::size_t) {
                dnnl::stream stream(engine_);
                for (std::size_t i = queue.take(); i < plan.size(); i = queue.take()) {
                    compute(plan[i], batch.x, turn.layer, scratch_[ith], stream);
                }
            };
            threads_.run(work);
        } else {
            for (const ExpertRows& rows : plan) {
                compute(rows, batch.x, turn.layer, scratch_.front(), stream_);
            }
        }
        combine(plan, y);
    }

private:
    void choose_threads(const Batch& batch) {
        std::vector<float> memory(batch.tokens() * shape_.d_model);
        const auto y = moe::view(memory.data(), batch.tokens(), shape_.d_model);
        std::array<double, 2> best{std::numeric_limits<double>::max(), std::numeric_limits<double>::max()};
        for (const std::size_t variant : {0U, 1U, 2U}) {  // the first turn also warms up
            for (const bool spread : {false, true}) {
                spread_ = spread;
                double& time = best[spread ? 1 : 0];
                time = std::min(time, seconds_of([&] { run(batch, {0, variant}, y); }));
            }
        }
        spread_ = best[1] < best[0];
    }

    [[nodiscard]] Products& products_of(std::size_t e) { return products_[e < shape_.n_experts ? 0 : 1]; }
    [[nodiscard]] std::byte* packed(std::size_t layer, std::size_t e) const {
        return layers_[layer].as<std::byte>().data() + e * products_[0].packed_bytes();
    }
    [[nodiscard]] std::byte* packed_output(std::size_t layer, std::size_t e) {
        return packed(layer, e) + moe::round_up(products_of(e).hidden.weights().get_size(), 64);
    }

    void pack(float* plain, std::size_t layer, std::size_t e) {
        const auto reorder = [&](const InnerProduct& product, float* source, std::byte* target) {
            dnnl::memory from(product.plain_weights(), engine_, source);
            dnnl::memory to(product.weights(), engine_, target);
            dnnl::reorder(from, to).execute(stream_, from, to);
        };
        reorder(products_of(e).hidden, plain, packed(layer, e));
        reorder(products_of(e).output, plain + 2 * expert_width(shape_, e) * shape_.d_model, packed_output(layer, e));
        stream_.wait();
    }

    void compute(const ExpertRows& rows, moe::MatrixView<const float> x, std::size_t layer, Scratch& scratch,
                 dnnl::stream& stream) {
        const std::size_t n = rows.tokens.size();
        const std::size_t d = shape_.d_model;
        const std::size_t d_ff = expert_width(shape_, rows.expert);
        const Products& products = products_of(rows.expert);
        scratch.x.resize(std::max(scratch.x.size(), n * std::max(d, d_ff)));
        scratch.hidden.resize(std::max(scratch.hidden.size(), n * 2 * d_ff));
        const auto gather = [&](std::size_t begin, std::size_t end) {
            for (std::size_t r = begin; r < end; ++r) {
                std::copy_n(x.row(rows.tokens[r]), d, &scratch.x[r * d]);
            }
        };
        const auto activate = [&](std::size_t begin, std::size_t end) {
            for (std::size_t r = begin; r < end; ++r) {
                const float* const gate = &scratch.hidden[r * 2 * d_ff];
                float* const out = &scratch.x[r * d_ff];
                for (std::size_t i = 0; i < d_ff; ++i) {
                    out[i] = gate[i] / (1.0F + std::exp(-gate[i])) * gate[d_ff + i];
                }
            }
        };
        over_rows(n, gather);
        products.hidden.run(n, spread_, scratch.x.data(), packed(layer, rows.expert), scratch.hidden.data(),
                            scratch.memory.data(), stream);
        over_rows(n, activate);
        products.output.run(n, spread_, scratch.x.data(), packed_output(layer, rows.expert), &outputs_[rows.first * d],
                            scratch.memory.data(), stream);
    }

    /// On all threads if this is not already one of several.
    template <class Body>
    void over_rows(std::size_t n, Body&& body) const {
        if (spread_) {
            body(0, n);
        } else {
            threads_.split(n, 4, body);
        }
    }

    void combine(const std::vector<ExpertRows>& plan, moe::MatrixView<float> y) const {
        threads_.split(y.cols(), 16, [&](std::size_t begin, std::size_t end) {
            for (std::size_t t = 0; t < y.rows(); ++t) {
                std::fill(y.row(t) + begin, y.row(t) + end, 0.0F);
            }
            for (const ExpertRows& rows : plan) {
                for (std::size_t r = 0; r < rows.tokens.size(); ++r) {
                    float* const sum = y.row(rows.tokens[r]);
                    const float* const out = &outputs_[(rows.first + r) * shape_.d_model];
                    for (std::size_t c = begin; c < end; ++c) {
                        sum[c] += rows.weights[r] * out[c];
                    }
                }
            }
        });
    }

    Shape shape_;
    Threads threads_;
    dnnl::engine engine_;
    dnnl::stream stream_;
    std::vector<Products> products_;
    std::vector<HugeBuffer> layers_;
    std::vector<Scratch> scratch_;
    std::vector<std::vector<ExpertRows>> plans_;
    std::vector<float> outputs_;
    bool spread_ = false;
};

}  // namespace

std::unique_ptr<Arm> make_onednn_arm(const Shape& shape, Format format, std::size_t layers, const Threads& threads) {
    return std::make_unique<OneDnnArm>(shape, format, layers, threads);
}

std::string onednn_version() {
    const dnnl_version_t* const version = dnnl_version();
    return std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch);
}

}  // namespace bench
