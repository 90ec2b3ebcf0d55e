// xLSTM of mLSTM blocks, as transformers has it: a scalar gate, an exponential input gate and a
// normaliser.
//
// Norms between layers are root-mean-square norms. With h = norm(x), for every head
//
//   q, k, v, o = h Wq, h Wk, h Wv, h Wo;   i, f = cap(h Wi + bi), cap(h Wf + bf)
//   m_t = max(logsigmoid(f_t) + m_{t-1}, i_t)
//   a_t = exp(logsigmoid(f_t) + m_{t-1} - m_t),  c_t = exp(i_t - m_t)
//   S_t = a_t S_{t-1} + c_t k_t^T v_t,  n_t = a_t n_{t-1} + c_t k_t
//   y_t = K^-0.5 q_t S_t / (max(|K^-0.5 q_t n_t^T|, exp(-m_t)) + eps)
//   x += (layernorm_per_head(y) * sigmoid(o)) Wout
//
// where cap(z) = gate_soft_cap * tanh(z / gate_soft_cap); then the gated MLP. Logits are capped in
// the same way. The normaliser n is one more column of the matrix, m is a number a head.
//
// Source: Beck et al. 2025, "xLSTM 7B" (arXiv 2503.13427); modeling_xlstm.py of transformers
// (5.23), whose checkpoints this reads.
#pragma once

#include "engine/architecture.h"
#include "engine/models/xlstm_config.h"

namespace sluice {

Architecture MakeXlstm(const XlstmConfig& config, const Compute& compute);

}  // namespace sluice
