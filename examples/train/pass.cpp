#include "pass.hpp"

#include <utility>

#include "linear.hpp"
#include "norm.hpp"

namespace trainer {

namespace {

template <class T>
[[nodiscard]] moe::MatrixView<T> view_of(Matrix<T>& matrix) {
    return moe::view(matrix.data(), unsigned_size(matrix.rows()), unsigned_size(matrix.cols()));
}

}  // namespace

template <class T>
Pass<T>::Pass(const Model<T>& model, std::size_t length, Blocks<T> blocks, Learns learns)
    : model_(model), length_(length), attention_(model.config(), length), learns_(learns), blocks_(std::move(blocks)) {
    moe::ensure(blocks_.size() == model.layers().size(), moe::ErrorCode::shape, "there are ", blocks_.size(),
                " blocks for ", model.layers().size(), " layers");
    layers_.resize(model.layers().size());
    for (const std::unique_ptr<Block<T>>& block : blocks_) {
        if (moe::Tape<T>* const tape = block->tape()) {
            tapes_.push_back(tape);
        }
    }
}

template <class T>
void Pass<T>::resize(std::size_t n_sequences) {
    if (n_sequences == capacity_) {
        return;
    }
    capacity_ = n_sequences;
    const Config& config = model_.config();
    const std::size_t n_tokens = n_sequences * length_;
    const Eigen::Index n = signed_size(n_tokens);
    for (LayerMemory& layer : layers_) {
        layer.x.resize(n, config.d_model);
        layer.attention_inverse.resize(n_tokens);
        layer.attention.resize(config, n_sequences, length_);
        layer.middle.resize(n, config.d_model);
        layer.moe_inverse.resize(n_tokens);
        layer.moe_input.resize(n, config.d_model);
    }
    for (Matrix<T>* const matrix : {&x_, &normed_, &dx_, &d_normed_}) {
        matrix->resize(n, config.d_model);
    }
    inverse_.resize(n_tokens);
    logits_.resize(n, config.vocab_size);
    attention_gradients_.resize(config, n_sequences, length_);
    norm_gradients_.resize(signed_size(n_sequences), config.d_model);
    losses_.resize(n_tokens);
}

template <class T>
void Pass<T>::embed() {
    const Weight<T> embedding = weight(model_.embedding());
    for (std::size_t t = 0; t < batch_.tokens.size(); ++t) {
        const std::int32_t token = batch_.tokens[t];
        moe::ensure(token >= 0 && token < embedding.rows(), moe::ErrorCode::range, "token ", t, " is ", token,
                    ", the vocabulary has ", embedding.rows());
        layers_.front().x.row(signed_size(t)) = embedding.row(token);
    }
}

template <class T>
void Pass<T>::forward(const Batch& batch, const moe::ExecutorRef& threads) {
    const std::size_t n_tokens = batch.n_sequences * length_;
    moe::ensure(batch.n_sequences > 0 && batch.tokens.size() == n_tokens && batch.targets.size() == n_tokens,
                moe::ErrorCode::shape, "a batch of ", batch.n_sequences, " sequences of ", length_, " tokens has ",
                batch.tokens.size(), " tokens and ", batch.targets.size(), " targets");
    batch_ = batch;
    resize(batch.n_sequences);
    embed();
    const double eps = model_.config().norm_eps;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        const Layer<T>& layer = model_.layers()[i];
        LayerMemory& memory = layers_[i];
        Matrix<T>& next = i + 1 < layers_.size() ? layers_[i + 1].x : x_;
        for_each_task(threads, batch.n_sequences, [&](std::size_t s) {
            rms_norm<T>(rows(memory.x, s), layer.attention_norm.value(), eps, rows(memory.attention_inverse, s),
                        rows(memory.attention.input, s));
            rows(memory.middle, s) = rows(memory.x, s);
            attention_.forward(weights_of(layer), s, memory.attention, rows(memory.middle, s));
            rms_norm<T>(rows(memory.middle, s), layer.moe_norm.value(), eps, rows(memory.moe_inverse, s),
                        rows(memory.moe_input, s));
            rows(next, s) = rows(memory.middle, s);
        });
        blocks_[i]->forward(view_of(memory.moe_input), view_of(next), block_call(threads));
    }
    const Weight<T> head = weight(model_.head());
    for_each_task(threads, batch.n_sequences, [&](std::size_t s) {
        rms_norm<T>(rows(x_, s), model_.final_norm().value(), eps, rows(inverse_, s), rows(normed_, s));
        rows(logits_, s).noalias() = rows(normed_, s) * head.transpose();
    });
}

template <class T>
double Pass<T>::cross_entropy(double sum, double scale, const moe::ExecutorRef& threads) {
    for_each_task(threads, batch_.n_sequences, [&](std::size_t s) {
        losses_[s] = trainer::cross_entropy<T>(rows(logits_, s), batch_.targets.subspan(s * length_, length_), scale);
    });
    for (std::size_t s = 0; s < batch_.n_sequences; ++s) {
        sum += losses_[s];
    }
    return sum;
}

template <class T>
std::span<const double> Pass<T>::losses(const moe::ExecutorRef& threads) {
    for_each_task(threads, batch_.n_sequences, [&](std::size_t s) {
        for (std::size_t t = s * length_; t < (s + 1) * length_; ++t) {
            losses_[t] =
                trainer::cross_entropy<T>(logits_.middleRows(signed_size(t), 1), batch_.targets.subspan(t, 1), 0);
        }
    });
    return losses_;
}

template <class T>
void Pass<T>::backward(const moe::ExecutorRef& threads) {
    backward_head(threads);
    for (std::size_t i = layers_.size(); i-- > 0;) {
        backward_moe(i, threads);
        if (i > 0 || learns_ == Learns::everything) {
            backward_attention(i, threads);
        }
    }
    if (learns_ != Learns::everything) {
        return;
    }
    Gradient<T> embedding = gradient(model_.embedding());
    for (std::size_t t = 0; t < batch_.tokens.size(); ++t) {
        embedding.row(batch_.tokens[t]) += dx_.row(signed_size(t));
    }
}

template <class T>
void Pass<T>::backward_head(const moe::ExecutorRef& threads) {
    const Weight<T> head = weight(model_.head());
    for_each_task(threads, batch_.n_sequences, [&](std::size_t s) {
        rows(d_normed_, s).noalias() = rows(logits_, s) * head;
        rows(dx_, s).setZero();
    });
    if (learns_ == Learns::everything) {
        add_linear_gradients<T>({{gradient(model_.head()), &logits_, &normed_}}, batch_.n_sequences, length_, threads);
    }
    backward_norm(model_.final_norm(), x_, inverse_, threads);
}

template <class T>
void Pass<T>::backward_moe(std::size_t i, const moe::ExecutorRef& threads) {
    const Layer<T>& layer = model_.layers()[i];
    blocks_[i]->backward(view_of(dx_), view_of(d_normed_), block_call(threads));
    backward_norm(layer.moe_norm, layers_[i].middle, layers_[i].moe_inverse, threads);
}

template <class T>
void Pass<T>::backward_attention(std::size_t i, const moe::ExecutorRef& threads) {
    const Layer<T>& layer = model_.layers()[i];
    const AttentionTape<T>& tape = layers_[i].attention;
    for_each_task(threads, batch_.n_sequences, [&](std::size_t s) {
        attention_.backward(weights_of(layer), s, tape, rows(dx_, s), attention_gradients_, rows(d_normed_, s));
    });
    if (learns_ == Learns::everything) {
        add_linear_gradients<T>({{gradient(layer.query), &attention_gradients_.queries, &tape.input},
                                 {gradient(layer.key), &attention_gradients_.keys, &tape.input},
                                 {gradient(layer.value), &attention_gradients_.values, &tape.input},
                                 {gradient(layer.output), &dx_, &tape.mixed}},
                                batch_.n_sequences, length_, threads);
    }
    backward_norm(layer.attention_norm, layers_[i].x, layers_[i].attention_inverse, threads);
}

template <class T>
void Pass<T>::backward_norm(const moe::Parameter<T>& norm, Matrix<T>& x, std::vector<T>& inverse,
                            const moe::ExecutorRef& threads) {
    norm_gradients_.setZero();
    for_each_task(threads, batch_.n_sequences, [&](std::size_t s) {
        const std::span<T> sum(norm_gradients_.row(signed_size(s)).data(), unsigned_size(norm_gradients_.cols()));
        rms_norm_backward<T>(rows(x, s), norm.value(), rows(inverse, s), rows(d_normed_, s), rows(dx_, s), sum);
    });
    if (learns_ != Learns::everything) {
        return;
    }
    Gradient<T> to = gradient(norm);
    for (std::size_t s = 0; s < batch_.n_sequences; ++s) {
        to.row(0) += norm_gradients_.row(signed_size(s));
    }
}

template class Pass<float>;
template class Pass<double>;

}  // namespace trainer
