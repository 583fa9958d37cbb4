#pragma once

#include <memory>
#include <vector>

#include "../arms/rivals.hpp"
#include "rival_arm.hpp"

namespace bench::backward {

/// Those that can be trained and whose libraries were there when this program was built.
[[nodiscard]] std::vector<Rival> available_rivals();

/// `rival` must be available; what is given must outlive it.
[[nodiscard]] std::unique_ptr<Arm> make_rival(Rival rival, const Shape& shape, const Parameters& weights,
                                              const Parameters& gradients, const Activations& kept,
                                              const Threads& threads);

// The arms: each is a translation unit that is compiled where its library is there.

/// Forward and backward as a researcher writes them with Eigen: expert by expert gather, products of matrices,
/// elementwise derivatives, scatter.
[[nodiscard]] std::unique_ptr<Arm> make_eigen_arm(const Shape& shape, const Parameters& weights,
                                                  const Parameters& gradients, const Activations& kept,
                                                  const Threads& threads);

/// The same with oneDNN's inner products forward, backward by data and backward by weights. The weights stay row-major,
/// since they change with each step; gradients of weights are added to from a matrix that oneDNN writes.
[[nodiscard]] std::unique_ptr<Arm> make_onednn_arm(const Shape& shape, const Parameters& weights,
                                                   const Parameters& gradients, const Activations& kept,
                                                   const Threads& threads);

}  // namespace bench::backward
