// Matrices of a type of the user's, and a user's layer on them.

#include <moe/eigen_train.hpp>

#include "guest.hpp"

namespace guest {

namespace {

struct Matrix : moe::RowMatrix<float> {
    using moe::RowMatrix<float>::RowMatrix;
};
struct Matrices : std::vector<Matrix> {
    using std::vector<Matrix>::vector;
};

}  // namespace

void use_eigen(Report& result) {
    const Matrices gate(2, Matrix(moe::RowMatrix<float>::Constant(3, 4, 0.5F)));
    const Matrices down(2, Matrix(moe::RowMatrix<float>::Constant(4, 3, 0.5F)));
    const Matrix router(moe::RowMatrix<float>::Random(2, 4));
    const Matrix x(moe::RowMatrix<float>::Random(5, 4));
    const moe::MoELayer layer{
        moe::Router{moe::weights(router), TokenGate{}},
        moe::ExpertBank<float, Form>({}, {moe::stacked(gate), moe::stacked(gate), moe::stacked(down), {}, {}, {}})};
    const moe::RowMatrix<float> y = moe::forward(layer, x, Executor{});
    Matrix into(moe::RowMatrix<float>::Zero(5, 4));
    moe::Workspace workspace;
    moe::forward(layer, x, into, workspace, Executor{});
    result.expect((y - into).norm() == 0, "forward");
    const moe::RoutingPlan<float> plan = moe::route(layer, x, Executor{});
    result.expect((moe::forward(layer, x, plan, Executor{}) - y).norm() == 0, "forward with a plan");
    result.expect(moe::view(x).rows() == 5, "view");

    const moe::MoELayer trained{moe::Router{moe::weights(router), TokenGate{}},
                                moe::ExpertBank<float, moe::Gated<Activation>>(
                                    {}, {moe::stacked(gate), moe::stacked(gate), moe::stacked(down), {}, {}, {}})};
    moe::Tape<float> tape;
    moe::OwnedGradients<float> gradients = moe::gradients_of(trained);
    const Matrix difference(moe::forward(trained, x, tape, Executor{}));
    moe::forward(trained, x, into, tape, workspace, Executor{});
    const Matrix dx(moe::backward(trained, tape, difference, gradients, Executor{}));
    (void)moe::forward(trained, x, tape);
    moe::backward(trained, tape, difference, into, gradients, workspace, Executor{}, {.accumulate_dx = true});
    result.expect((into - difference - dx).norm() < 1e-5F * dx.norm(), "backward");
    result.expect(moe::map(gradients.gate(1)).norm() > 0, "map");
}

}  // namespace guest
