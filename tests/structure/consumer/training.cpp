// A file of that program that trains: the backward pass, too, is compiled in moe.cpp.
#include <moe/instantiate_train.hpp>

void train(const moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, moe::SwiGLU<float>>& layer,
           moe::MatrixView<const float> x, moe::MatrixView<float> y, moe::MatrixView<const float> dy,
           const moe::LayerGradients<float>& gradients);

void train(const moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, moe::SwiGLU<float>>& layer,
           moe::MatrixView<const float> x, moe::MatrixView<float> y, moe::MatrixView<const float> dy,
           const moe::LayerGradients<float>& gradients) {
    moe::Tape<float> tape;
    moe::Workspace workspace;
    moe::forward(layer, x, y, tape, workspace);
    moe::backward(layer, tape, dy, {}, gradients, workspace);
}
