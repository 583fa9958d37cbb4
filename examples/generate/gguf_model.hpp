#pragma once

#include <string>

#include <moe/io/gguf_file.hpp>
#include <moe/layer/any_layer.hpp>

#include "checkpoint.hpp"
#include "config.hpp"

namespace generate {

/// A Mixtral in a GGUF file as llama.cpp has it (architecture "llama" with experts), asked for by the names that
/// Hugging Face has. What is quantised is decoded, but for the experts.
///
/// llama.cpp turns neighbouring numbers of a head, 2 j and 2 j + 1, by the angle of a position, Hugging Face j and
/// j + head_dim / 2. So its converter reorders the rows of the matrices of queries and keys, head by head, and this
/// class puts them back.
class GgufModel final : public Weights {
public:
    /// Throws moe::Error for a file that is missing or damaged, or that describes a model this program does not know.
    explicit GgufModel(const std::string& path);

    [[nodiscard]] const Config& config() const noexcept { return config_; }
    [[nodiscard]] Matrix matrix(const std::string& name, Eigen::Index rows, Eigen::Index cols) const override;
    [[nodiscard]] RowVector vector(const std::string& name, Eigen::Index size) const override;

private:
    [[nodiscard]] std::vector<float> values(const std::string& name, const std::vector<Eigen::Index>& shape) const;

    std::string path_;
    moe::GgufFile file_;
    Config config_;
};

/// The experts of all layers of such a file, packed as they are stored.
[[nodiscard]] std::vector<moe::AnyLayer<float>> gguf_experts(const std::string& path);

/// Row of a matrix of queries or keys in a GGUF file that row `row` of Hugging Face's becomes.
[[nodiscard]] Eigen::Index gguf_row(Eigen::Index row, Eigen::Index head_dim);

/// Whether the file is one by its name.
[[nodiscard]] bool is_gguf(const std::string& path);

/// Writes the model in `directory` as a GGUF file, as llama.cpp's converter would: matrices in bfloat16, norms and
/// routers in float32. The file has no tokens: they are bytes. Throws moe::Error as Model does, and for a file that
/// cannot be written.
void write_gguf_model(const std::string& directory, const std::string& path);

}  // namespace generate
