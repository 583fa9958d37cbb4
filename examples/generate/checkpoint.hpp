#pragma once

#include <string>
#include <vector>

#include <Eigen/Core>
#include <moe/core/half.hpp>
#include <moe/io/safetensors.hpp>

namespace generate {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowVector = Eigen::RowVectorXf;

/// The matrices of a model by the names that Hugging Face has, each with the shape the caller knows it must have. All
/// members throw moe::Error for a tensor that is not as asked.
class Weights {
public:
    Weights() = default;
    Weights(const Weights&) = delete;
    Weights& operator=(const Weights&) = delete;
    virtual ~Weights() = default;

    /// Copies as float.
    [[nodiscard]] virtual Matrix matrix(const std::string& name, Eigen::Index rows, Eigen::Index cols) const = 0;
    [[nodiscard]] virtual RowVector vector(const std::string& name, Eigen::Index size) const = 0;
};

/// The tensors of a safetensors file, each with the shape the caller knows it must have.
class Checkpoint final : public Weights {
public:
    /// Throws moe::Error when the file is missing or damaged, as every member does for a tensor that is not as asked.
    explicit Checkpoint(const std::string& path) : path_(path), file_(moe::SafetensorsFile::open(path)) {}

    /// (rows, cols) bfloat16 values where they lie in the mapped file: valid while the checkpoint lives.
    [[nodiscard]] const moe::bfloat16* elements(const std::string& name, Eigen::Index rows, Eigen::Index cols) const {
        return tensor(name, {rows, cols}).data_as<moe::bfloat16>();
    }

    [[nodiscard]] Matrix matrix(const std::string& name, Eigen::Index rows, Eigen::Index cols) const override {
        return Eigen::Map<const Matrix>(tensor(name, {rows, cols}).to_float_vector().data(), rows, cols);
    }
    [[nodiscard]] RowVector vector(const std::string& name, Eigen::Index size) const override {
        return Eigen::Map<const RowVector>(tensor(name, {size}).to_float_vector().data(), size);
    }

    /// A (1, n) tensor of token ids, n >= 2, each in [0, vocab_size).
    [[nodiscard]] std::vector<std::int32_t> tokens(const std::string& name, Eigen::Index vocab_size) const;

private:
    [[nodiscard]] const moe::TensorView& tensor(const std::string& name, const std::vector<Eigen::Index>& shape) const;

    std::string path_;
    moe::SafetensorsFile file_;
};

}  // namespace generate
