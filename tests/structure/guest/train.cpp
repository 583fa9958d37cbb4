// Gradients of a layer of a user's gates and activations.

#include <moe/train.hpp>

#include "guest.hpp"

namespace guest {

namespace {

/// The gradients of x and of all parameters, for a loss that is the sum of y.
template <class T, class L>
std::vector<T> gradients(const Data<T>& data, const L& layer) {
    std::vector<T> y(data.x.size());
    std::vector<T> dx(data.x.size());
    const std::vector<T> ones(data.x.size(), T(1));
    moe::Tape<T> tape;
    moe::Workspace workspace;
    Observer<T> observer;
    moe::OwnedGradients<T> to = moe::gradients_of(layer);
    moe::forward(layer, data.x_view(), moe::view(y.data(), data.n_tokens, data.d_model), tape, workspace, Executor{},
                 {.observer = &observer});
    moe::backward(layer, tape, moe::view(ones.data(), data.n_tokens, data.d_model),
                  moe::view(dx.data(), data.n_tokens, data.d_model), to, workspace, Executor{});
    dx.insert(dx.end(), to.all().begin(), to.all().end());
    return dx;
}

template <class T>
void train(Report& result) {
    const Data<T> data;
    const auto plain = data.plain_layer();
    const std::vector<T> expected = gradients(data, plain);
    const auto same = [&](const auto& layer, const char* what) {
        const std::vector<T> found = gradients(data, layer);
        bool near = found.size() == expected.size();
        for (std::size_t i = 0; near && i < found.size(); ++i) {
            near = found[i] - expected[i] < T(1e-4) && expected[i] - found[i] < T(1e-4);
        }
        result.expect(near, what);
    };
    same(plain.with_gate(TokenGate{}), "gradient of a token gate");
    same(plain.with_gate(BatchGate{}), "gradient of a batch gate");
    same(plain.with_gate(FloatGate{}), "gradient of a gate of floats");
    same(plain.with_gate(moe::AnyGate(TokenGate{})), "gradient of a gate in AnyGate");
    same(plain.with_gate(moe::Numeric{TokenGate{}}), "gradient of a gate, by trying");
    same(plain.with_gate(moe::TokenChoice<Score>{.top_k = 2}), "gradient of a score");
    same(plain.with_gate(moe::Capacity<TokenGate>{.limit = moe::CapacityLimit::fixed(100)}), "gradient in Capacity");
    (void)gradients(data, plain.with_gate(moe::Detached{TokenGate{}}));

    const auto own = [&](const auto& form) {
        using Bank = Source<moe::ExpertBank<T, std::remove_cvref_t<decltype(form)>>>;
        return moe::MoELayer{moe::Router{data.router_view(), TokenGate{}}, Bank(form, data.weights())};
    };
    same(own(moe::Gated<Activation>{}), "gradient of an activation");
    same(own(moe::Gated<ScalarActivation>{}), "gradient of a scalar activation");
    same(own(moe::ClampedBefore<Activation>{.limit = 100}), "gradient in ClampedBefore");
    if constexpr (std::is_same_v<T, double>) {
        result.expect(moe::check_gradients(own(moe::Gated<Activation>{}), data.x_view()).passed(), "check_gradients");
        const auto layer = own(moe::Gated<ScalarActivation>{});
        result.expect(moe::check_gradients(layer.with_gate(FloatGate{}), data.x_view()).passed(), "in float");
    }
}

}  // namespace

void use_training(Report& result) {
    train<float>(result);
    train<double>(result);
}

}  // namespace guest
