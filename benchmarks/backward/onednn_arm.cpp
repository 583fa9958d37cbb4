#include <cmath>
#include <deque>

#include <moe/core/workspace.hpp>

#include "onednn_products.hpp"
#include "rivals.hpp"

namespace bench::backward {

namespace {

using Kind = TrainedProduct::Kind;

/// The products of experts of one width: gate and up have the same.
struct Products {
    TrainedProduct hidden;
    TrainedProduct output;

    Products(const dnnl::engine& engine, std::size_t d_model, std::size_t d_ff)
        : hidden(engine, d_model, d_ff), output(engine, d_ff, d_model) {}
};

/// What one worker needs while it computes an expert.
struct Scratch {
    dnnl::stream stream;
    std::vector<float> rows;    ///< (rows, d_model) a second part of dx
    std::vector<float> matrix;  ///< gradients of a matrix, before they are added
    moe::AlignedBuffer scratchpad;
};

class OneDnnArm final : public RivalArm {
public:
    OneDnnArm(const Shape& shape, const Parameters& weights, const Parameters& gradients, const Activations& kept,
              const Threads& threads)
        : RivalArm(shape, weights, gradients, kept, threads), engine_(dnnl::engine::kind::cpu, 0) {
        products_.emplace_back(engine_, shape.d_model, shape.d_ff);
        if (shape.shared_d_ff > 0) {
            products_.emplace_back(engine_, shape.d_model, shape.shared_d_ff);
        }
        for (std::size_t i = 0; i < threads.concurrency(); ++i) {
            scratch_.push_back({dnnl::stream(engine_), {}, {}, {}});
        }
    }

    [[nodiscard]] std::string_view name() const override { return "onednn"; }

protected:
    void prepare_products(const std::vector<std::vector<ExpertRows>>& plans) override {
        std::size_t most = 0;
        for (const auto& plan : plans) {
            for (const ExpertRows& rows : plan) {
                products_of(rows.expert).hidden.prepare(rows.tokens.size(), threads());
                products_of(rows.expert).output.prepare(rows.tokens.size(), threads());
                most = std::max(most, rows.tokens.size());
            }
        }
        std::size_t bytes = 0;
        for (const Products& products : products_) {
            bytes = std::max({bytes, products.hidden.scratchpad_bytes(), products.output.scratchpad_bytes()});
        }
        for (Scratch& scratch : scratch_) {
            scratch.rows.resize(most * shape().d_model);
            scratch.matrix.resize(shape().d_model * std::max(shape().d_ff, shape().shared_d_ff));
            scratch.scratchpad = moe::AlignedBuffer(bytes);
        }
    }

    void forward_expert(const ExpertRows& rows, std::size_t ith) override {
        const Expert e(*this, rows);
        run(Kind::forward, rows, Matrix::gate, e.x, weights(Matrix::gate, rows.expert), e.gate, ith);
        run(Kind::forward, rows, Matrix::up, e.x, weights(Matrix::up, rows.expert), e.up, ith);
        over_rows(rows.tokens.size(), [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin * e.width; i < end * e.width; ++i) {
                e.hidden[i] = e.gate[i] / (1.0F + std::exp(-e.gate[i])) * e.up[i];
            }
        });
        run(Kind::forward, rows, Matrix::down, e.hidden, weights(Matrix::down, rows.expert), e.output, ith);
    }

    void backward_expert(const ExpertRows& rows, moe::MatrixView<const float> dy, std::size_t ith) override {
        const Expert e(*this, rows);
        const std::size_t d = shape().d_model;
        over_rows(rows.tokens.size(), [&](std::size_t begin, std::size_t end) {
            for (std::size_t r = begin; r < end; ++r) {
                std::copy_n(dy.row(rows.tokens[r]), d, e.output + r * d);
            }
        });
        run(Kind::data, rows, Matrix::down, e.d_hidden, weights(Matrix::down, rows.expert), e.output, ith);
        over_rows(rows.tokens.size(), [&](std::size_t begin, std::size_t end) {
            for (std::size_t r = begin; r < end; ++r) {
                derive(rows, r, e);
                std::for_each(e.output + r * d, e.output + (r + 1) * d, [&](float& v) { v *= rows.weights[r]; });
            }
        });
        add_gradients(rows, Matrix::down, e.hidden, e.output, ith);
        add_gradients(rows, Matrix::gate, e.x, e.gate, ith);
        add_gradients(rows, Matrix::up, e.x, e.up, ith);
        float* const part = scratch_[ith].rows.data();
        run(Kind::data, rows, Matrix::gate, e.output, weights(Matrix::gate, rows.expert), e.gate, ith);
        run(Kind::data, rows, Matrix::up, part, weights(Matrix::up, rows.expert), e.up, ith);
        over_rows(rows.tokens.size(), [&](std::size_t begin, std::size_t end) {
            std::transform(e.output + begin * d, e.output + end * d, part + begin * d, e.output + begin * d,
                           std::plus<>());
        });
    }

private:
    /// Where the rows of an expert are.
    struct Expert {
        std::size_t width;
        float *x, *output, *gate, *up, *hidden, *d_hidden;

        Expert(const OneDnnArm& arm, const ExpertRows& rows)
            : width(expert_width(arm.shape(), rows.expert)),
              x(arm.kept().gathered(rows.first)),
              output(arm.kept().output(rows.first)),
              gate(arm.kept().gate(rows.first)),
              up(arm.kept().up(rows.first)),
              hidden(arm.kept().hidden(rows.first)),
              d_hidden(arm.kept().d_hidden(rows.first)) {}
    };

    [[nodiscard]] Products& products_of(std::size_t e) { return products_[e < shape().n_experts ? 0 : 1]; }

    /// x are the inputs of the matrix and y its outputs, or their gradients.
    void run(Kind kind, const ExpertRows& rows, Matrix which, float* x, float* w, float* y, std::size_t ith) {
        Products& products = products_of(rows.expert);
        const TrainedProduct& product = which == Matrix::down ? products.output : products.hidden;
        Scratch& scratch = scratch_[ith];
        product.run(kind, rows.tokens.size(), spread(), x, w, y, scratch.scratchpad.data(), scratch.stream);
    }

    /// The gradients of one row: of the weight of its expert, and of gate x and up x in place of these.
    void derive(const ExpertRows& rows, std::size_t r, const Expert& e) {
        float sum = 0;
        for (std::size_t i = r * e.width; i < (r + 1) * e.width; ++i) {
            sum += e.hidden[i] * e.d_hidden[i];
            const float g = e.gate[i];
            const float s = 1.0F / (1.0F + std::exp(-g));
            const float dh = rows.weights[r] * e.d_hidden[i];
            e.gate[i] = dh * e.up[i] * s * (1.0F + g * (1.0F - s));
            e.up[i] = dh * g * s;
        }
        set_d_weight(rows, r, sum);
    }

    void add_gradients(const ExpertRows& rows, Matrix which, float* x, float* dy, std::size_t ith) {
        std::vector<float>& matrix = scratch_[ith].matrix;
        run(Kind::weights, rows, which, x, matrix.data(), dy, ith);
        float* const to = gradients(which, rows.expert);
        over_rows(shape().d_model * expert_width(shape(), rows.expert), [&](std::size_t begin, std::size_t end) {
            std::transform(to + begin, to + end, &matrix[begin], to + begin, std::plus<>());
        });
    }

    dnnl::engine engine_;
    std::deque<Products> products_;
    std::vector<Scratch> scratch_;
};

}  // namespace

std::unique_ptr<Arm> make_onednn_arm(const Shape& shape, const Parameters& weights, const Parameters& gradients,
                                     const Activations& kept, const Threads& threads) {
    return std::make_unique<OneDnnArm>(shape, weights, gradients, kept, threads);
}

}  // namespace bench::backward
